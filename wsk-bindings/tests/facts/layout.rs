//! Every structure: its size and alignment, and each field's place, size and type.
#![allow(unsafe_code)] // Places of fields inside unions, and the bytes of structures.

use core::any::type_name;
use core::mem::{align_of, offset_of, size_of};
use std::collections::BTreeMap;

use super::c_types::CTypes;
use wsk_bindings::*;

/// Where a field is, and what.
#[derive(Debug, PartialEq, Eq)]
enum Field {
    /// A field of the structure, or of one inside it.
    Place { offset: usize, size: usize, rust_type: String },
    /// A bit-field, or another name for bytes that a field has: a pair of methods.
    View { first_bit: usize, bits: usize },
}

#[derive(Debug)]
struct Structure {
    size: usize,
    align: usize,
    fields: BTreeMap<&'static str, Field>,
}

/// The size and the type of what a projection of a pointer points to. The projection is not called.
fn pointee<From, To>(_projection: impl Fn(*const From) -> *const To) -> (usize, String) {
    (size_of::<To>(), type_name::<To>().to_string())
}

/// Finds a view by setting all of its bits in a structure that is all zero.
fn view<Of>(set: impl Fn(&mut Of)) -> Field {
    // SAFETY: the structures that have views are made of integers, for which zero is valid.
    let mut structure: Of = unsafe { core::mem::zeroed() };
    set(&mut structure);
    let start = (&raw const structure).cast::<u8>();
    // SAFETY: as many bytes as the structure has, all initialized, since structures with views have no padding.
    let bytes = unsafe { core::slice::from_raw_parts(start, size_of::<Of>()) };
    let set: Vec<usize> = (0..8 * bytes.len()).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1).collect();
    let first_bit = *set.first().expect("a view has bits");
    assert_eq!(set, (first_bit..first_bit + set.len()).collect::<Vec<_>>(), "the bits of a view follow one another");
    Field::View { first_bit, bits: set.len() }
}

/// Lists structures. A field is `name;`, or `name = path;` where C has an anonymous member in between that has a name
/// here; after the arrow, a view is `name = setter(all ones);`.
macro_rules! structures {
    ($($structure:ident {
        $($field:ident $(= $($path:ident).+)?;)*
    } $(=> { $($view:ident = $($setter:ident).+($ones:expr);)+ })?)*) => {
        BTreeMap::from([$((stringify!($structure), Structure {
            size: size_of::<$structure>(),
            align: align_of::<$structure>(),
            fields: BTreeMap::from([
                $((stringify!($field), structures!(@place $structure, $field $(, $($path).+)?)),)*
                $($((stringify!($view), view(|of: &mut $structure| of.$($setter).+($ones))),)+)?
            ]),
        }),)*])
    };
    (@place $structure:ident, $field:ident) => { structures!(@place $structure, $field, $field) };
    (@place $structure:ident, $field:ident, $($path:ident).+) => {{
        let (size, rust_type) = pointee(|structure: *const $structure| {
            // SAFETY: the closure only has a type to give; `pointee` does not call it.
            unsafe { &raw const (*structure).$($path).+ }
        });
        Field::Place { offset: offset_of!($structure, $($path).+), size, rust_type }
    }};
}

#[allow(clippy::too_many_lines)] // It is a list.
fn structures() -> BTreeMap<&'static str, Structure> {
    structures! {
        in_addr {
            S_addr;
        } => {
            s_b1 = set_s_b1(!0); s_b2 = set_s_b2(!0); s_b3 = set_s_b3(!0); s_b4 = set_s_b4(!0);
            s_w1 = set_s_w1(!0); s_w2 = set_s_w2(!0);
        }
        sockaddr {
            sa_family; sa_data;
        }
        SOCKET_ADDRESS {
            lpSockaddr; iSockaddrLength;
        }
        sockaddr_storage {
            ss_family; __ss_pad1; __ss_align; __ss_pad2;
        }
        sockaddr_in {
            sin_family; sin_port; sin_addr; sin_zero;
        }
        WSABUF {
            len; buf;
        }
        WSAMSG {
            name; namelen; lpBuffers; dwBufferCount; Control; dwFlags;
        }
        addrinfoexW {
            ai_flags; ai_family; ai_socktype; ai_protocol; ai_addrlen; ai_canonname; ai_addr; ai_blob; ai_bloblen;
            ai_provider; ai_next;
        }
        in6_addr {
            Byte;
        } => {
            Word = set_Word([!0; 8]);
        }
        sockaddr_in6 {
            sin6_family; sin6_port; sin6_flowinfo; sin6_addr; sin6_scope_id;
        } => {
            sin6_scope_struct = set_sin6_scope_struct(SCOPE_ID { Value: !0 });
        }
        SOCKADDR_INET {
            Ipv4; Ipv6; si_family;
        }
        INET_PORT_RANGE {
            StartPort; NumberOfPorts;
        }
        DL_OUI {
            Byte;
        } => {
            Group = set_Group(!0); Local = set_Local(!0);
        }
        DL_EI48 {
            Byte;
        }
        DL_EUI48 {
            Byte; Oui = Parts.Oui; Ei48 = Parts.Ei48;
        }
        DL_EI64 {
            Byte;
        }
        DL_EUI64 {
            Byte; Value; Oui = Parts.Oui; Ei64 = Parts.Extension.Ei64; Type = Parts.Extension.Typed.Type;
            Tse = Parts.Extension.Typed.Tse; Ei48 = Parts.Extension.Typed.Ei48;
        }
        SNAP_HEADER {
            Dsap; Ssap; Control; Oui; Type;
        }
        ETHERNET_HEADER {
            Destination; Source; Type;
        } => {
            Length = set_Length(!0);
        }
        VLAN_TAG {
            Tag; Type;
        } => {
            VID = set_VID(!0); CFI = set_CFI(!0); User_Priority = set_User_Priority(!0);
        }
        ICMP_HEADER {
            Type; Code; Checksum;
        }
        ICMP_MESSAGE {
            Header; Data32 = Data.Data32; Data16 = Data.Data16; Data8 = Data.Data8;
        }
        IPV4_HEADER {
            VersionAndHeaderLength; TypeOfServiceAndEcnField; TotalLength; Identification; FlagsAndOffset;
            TimeToLive; Protocol; HeaderChecksum; SourceAddress; DestinationAddress;
        } => {
            HeaderLength = set_HeaderLength(!0); Version = set_Version(!0); EcnField = set_EcnField(!0);
            TypeOfService = set_TypeOfService(!0); DontUse1 = set_DontUse1(!0);
            MoreFragments = set_MoreFragments(!0); DontFragment = set_DontFragment(!0);
            Reserved = set_Reserved(!0); DontUse2 = set_DontUse2(!0);
        }
        IPV4_OPTION_HEADER {
            OptionType; OptionLength;
        } => {
            OptionNumber = set_OptionNumber(!0); OptionClass = set_OptionClass(!0);
            CopiedFlag = set_CopiedFlag(!0);
        }
        IPV4_TIMESTAMP_OPTION {
            OptionType = OptionHeader.OptionType; OptionLength = OptionHeader.OptionLength; Pointer; FlagsOverflow;
        } => {
            OptionNumber = OptionHeader.set_OptionNumber(!0); OptionClass = OptionHeader.set_OptionClass(!0);
            CopiedFlag = OptionHeader.set_CopiedFlag(!0); Flags = set_Flags(!0); Overflow = set_Overflow(!0);
        }
        IPV4_ROUTING_HEADER {
            OptionType = OptionHeader.OptionType; OptionLength = OptionHeader.OptionLength; Pointer;
        } => {
            OptionNumber = OptionHeader.set_OptionNumber(!0); OptionClass = OptionHeader.set_OptionClass(!0);
            CopiedFlag = OptionHeader.set_CopiedFlag(!0);
        }
        ICMPV4_ROUTER_SOLICIT {
            RsHeader;
        }
        ICMPV4_ROUTER_ADVERT_HEADER {
            RaHeader;
        }
        ICMPV4_ROUTER_ADVERT_ENTRY {
            RouterAdvertAddr; PreferenceLevel;
        }
        ICMPV4_TIMESTAMP_MESSAGE {
            Header; OriginateTimestamp; ReceiveTimestamp; TransmitTimestamp;
        }
        ICMPV4_ADDRESS_MASK_MESSAGE {
            Header; AddressMask;
        }
        ARP_HEADER {
            HardwareAddressSpace; ProtocolAddressSpace; HardwareAddressLength; ProtocolAddressLength; Opcode;
            SenderHardwareAddress;
        }
        IGMP_HEADER {
            VersionType; MaxRespTime; Checksum; MulticastAddress;
        } => {
            Type = set_Type(!0); Version = set_Version(!0); Reserved = set_Reserved(!0); Code = set_Code(!0);
        }
        IGMPV3_QUERY_HEADER {
            Type; MaxRespCode; Checksum; MulticastAddress; QueriersQueryInterfaceCode; SourceCount;
        } => {
            MaxRespCodeMantissa = set_MaxRespCodeMantissa(!0); MaxRespCodeExponent = set_MaxRespCodeExponent(!0);
            MaxRespCodeType = set_MaxRespCodeType(!0);
            QuerierRobustnessVariable = set_QuerierRobustnessVariable(!0);
            SuppressRouterSideProcessing = set_SuppressRouterSideProcessing(!0); Reserved = set_Reserved(!0);
            QQCMantissa = set_QQCMantissa(!0); QQCExponent = set_QQCExponent(!0); QQCType = set_QQCType(!0);
        }
        IGMPV3_REPORT_RECORD_HEADER {
            Type; AuxillaryDataLength; SourceCount; MulticastAddress;
        }
        IGMPV3_REPORT_HEADER_ {
            Type; Reserved; Checksum; Reserved2; RecordCount;
        }
        IPV6_HEADER {
            VersionClassFlow; PayloadLength; NextHeader; HopLimit; SourceAddress; DestinationAddress;
        }
        IPV6_FRAGMENT_HEADER {
            NextHeader; Reserved; OffsetAndFlags; Id;
        } => {
            DontUse1 = set_DontUse1(!0); MoreFragments = set_MoreFragments(!0);
            ReservedBits = set_ReservedBits(!0); DontUse2 = set_DontUse2(!0);
        }
        IPV6_EXTENSION_HEADER {
            NextHeader; Length;
        }
        IPV6_OPTION_HEADER {
            Type; DataLength;
        }
        IPV6_OPTION_JUMBOGRAM {
            Header; JumbogramLength;
        }
        IPV6_OPTION_ROUTER_ALERT {
            Header; Value;
        }
        IPV6_ROUTING_HEADER {
            NextHeader; Length; RoutingType; SegmentsLeft; Reserved;
        }
        nd_router_solicit {
            nd_rs_hdr;
        }
        nd_router_advert {
            nd_ra_hdr; nd_ra_reachable; nd_ra_retransmit;
        }
        IPV6_ROUTER_ADVERTISEMENT_FLAGS {
            Value;
        } => {
            Reserved = set_Reserved(!0); Preference = set_Preference(!0); HomeAgent = set_HomeAgent(!0);
            OtherStatefulConfiguration = set_OtherStatefulConfiguration(!0);
            ManagedAddressConfiguration = set_ManagedAddressConfiguration(!0);
        }
        nd_neighbor_solicit {
            nd_ns_hdr; nd_ns_target;
        }
        nd_neighbor_advert {
            nd_na_hdr; nd_na_target;
        }
        IPV6_NEIGHBOR_ADVERTISEMENT_FLAGS {
            Value;
        } => {
            Reserved1 = set_Reserved1(!0); Override = set_Override(!0); Solicited = set_Solicited(!0);
            Router = set_Router(!0); Reserved2 = set_Reserved2(!0);
        }
        nd_redirect {
            nd_rd_hdr; nd_rd_target; nd_rd_dst;
        }
        nd_opt_hdr {
            nd_opt_type; nd_opt_len;
        }
        nd_opt_prefix_info {
            nd_opt_pi_type; nd_opt_pi_len; nd_opt_pi_prefix_len; nd_opt_pi_flags_reserved; nd_opt_pi_valid_time;
            nd_opt_pi_preferred_time; nd_opt_pi_reserved2; nd_opt_pi_prefix;
        } => {
            Route = set_Route(!0); Reserved1 = set_Reserved1(!0); SitePrefix = set_SitePrefix(!0);
            RouterAddress = set_RouterAddress(!0); Autonomous = set_Autonomous(!0); OnLink = set_OnLink(!0);
            nd_opt_pi_reserved3 = set_nd_opt_pi_reserved3(!0);
            nd_opt_pi_site_prefix_len = set_nd_opt_pi_site_prefix_len(!0);
        }
        nd_opt_rd_hdr {
            nd_opt_rh_type; nd_opt_rh_len; nd_opt_rh_reserved1; nd_opt_rh_reserved2;
        }
        nd_opt_mtu {
            nd_opt_mtu_type; nd_opt_mtu_len; nd_opt_mtu_reserved; nd_opt_mtu_mtu;
        }
        nd_opt_route_info {
            nd_opt_ri_type; nd_opt_ri_len; nd_opt_ri_prefix_len; nd_opt_ri_flags_reserved;
            nd_opt_ri_route_lifetime; nd_opt_ri_prefix;
        } => {
            Reserved = set_Reserved(!0); Preference = set_Preference(!0);
        }
        nd_opt_rdnss {
            nd_opt_rdnss_type; nd_opt_rdnss_len; nd_opt_rdnss_reserved; nd_opt_rdnss_lifetime;
        }
        nd_opt_dnssl {
            nd_opt_dnssl_type; nd_opt_dnssl_len; nd_opt_dnssl_reserved; nd_opt_dnssl_lifetime;
        }
        MLD_HEADER {
            IcmpHeader; MaxRespTime; Reserved; MulticastAddress;
        }
        MLDV2_QUERY_HEADER {
            IcmpHeader; MaxRespCode; Reserved; MulticastAddress; QueriersQueryInterfaceCode; SourceCount;
        } => {
            MaxRespCodeMantissaHi = set_MaxRespCodeMantissaHi(!0);
            MaxRespCodeExponent = set_MaxRespCodeExponent(!0); MaxRespCodeType = set_MaxRespCodeType(!0);
            MaxRespCodeMantissaLo = set_MaxRespCodeMantissaLo(!0);
            QuerierRobustnessVariable = set_QuerierRobustnessVariable(!0);
            SuppressRouterSideProcessing = set_SuppressRouterSideProcessing(!0);
            QueryReserved = set_QueryReserved(!0); QQCMantissa = set_QQCMantissa(!0);
            QQCExponent = set_QQCExponent(!0); QQCType = set_QQCType(!0);
        }
        MLDV2_REPORT_RECORD_HEADER {
            Type; AuxillaryDataLength; SourceCount; MulticastAddress;
        }
        MLDV2_REPORT_HEADER {
            IcmpHeader; Reserved; RecordCount;
        }
        tcp_hdr {
            th_sport; th_dport; th_seq; th_ack; th_flags; th_win; th_sum; th_urp;
        } => {
            th_x2 = set_th_x2(!0); th_len = set_th_len(!0);
        }
        tcp_opt_mss {
            Kind; Length; Mss;
        }
        tcp_opt_ws {
            Kind; Length; ShiftCnt;
        }
        tcp_opt_sack_permitted {
            Kind; Length;
        }
        tcp_opt_sack {
            Kind; Length; Block;
        }
        tcp_opt_ts {
            Kind; Length; Val; EcR;
        }
        tcp_opt_unknown {
            Kind; Length;
        }
        tcp_opt_fastopen {
            Kind; Length; Cookie;
        }
        DL_TUNNEL_ADDRESS {
            CompartmentId; ScopeId; IpAddress;
        }
        DL_TEREDO_ADDRESS {
            Reserved; Eui64 = Address.Eui64; Flags = Address.Parts.Flags; MappedPort = Address.Parts.MappedPort;
            MappedAddress = Address.Parts.MappedAddress;
        }
        DL_TEREDO_ADDRESS_PRV {
            Reserved; Eui64 = Address.Eui64; Flags = Address.Parts.Flags; MappedPort = Address.Parts.MappedPort;
            MappedAddress = Address.Parts.MappedAddress; LocalAddress = Address.Parts.LocalAddress;
            InterfaceIndex = Address.Parts.InterfaceIndex; LocalPort = Address.Parts.LocalPort;
            DlDestination = Address.Parts.DlDestination;
        }
        IPTLS_METADATA {
            SequenceNumber;
        }
        NPI_MODULEID {
            Length; Type; Guid = Id.Guid; IfLuid = Id.IfLuid;
        }
        NPI_REGISTRATION_INSTANCE {
            Version; Size; NpiId; ModuleId; Number; NpiSpecificCharacteristics;
        }
        NPI {
            Handle; Dispatch;
        }
        NPI_CLIENT_CHARACTERISTICS {
            Version; Length; ClientAttachProvider; ClientDetachProvider; ClientCleanupBindingContext;
            ClientRegistrationInstance;
        }
        NPI_PROVIDER_CHARACTERISTICS {
            Version; Length; ProviderAttachClient; ProviderDetachClient; ProviderCleanupBindingContext;
            ProviderRegistrationInstance;
        }
        WSK_SOCKET {
            Dispatch;
        }
        WSK_PROVIDER_CHARACTERISTICS {
            HighestVersion; LowestVersion;
        }
        WSK_TRANSPORT {
            Version; SocketType; Protocol; AddressFamily; ProviderId;
        }
        WSK_BUF {
            Mdl; Offset; Length;
        }
        WSK_DATA_INDICATION {
            Next; Buffer;
        }
        WSK_DATAGRAM_INDICATION {
            Next; Buffer; ControlInfo; ControlInfoLength; RemoteAddress;
        }
        WSK_INSPECT_ID {
            Key; SerialNumber;
        }
        WSK_TDI_MAP {
            SocketType; AddressFamily; Protocol; TdiDeviceName;
        }
        WSK_TDI_MAP_INFO {
            ElementCount; Map;
        }
        WSK_EVENT_CALLBACK_CONTROL {
            NpiId; EventMask;
        }
        WSK_EXTENSION_CONTROL_IN {
            NpiId; ClientContext; ClientDispatch;
        }
        WSK_EXTENSION_CONTROL_OUT {
            ProviderContext; ProviderDispatch;
        }
        WSK_BUF_LIST {
            Next; Buffer;
        }
        WSK_CLIENT_DISPATCH {
            Version; Reserved; WskClientEvent;
        }
        WSK_CLIENT_LISTEN_DISPATCH {
            WskAcceptEvent; WskInspectEvent; WskAbortEvent;
        }
        WSK_CLIENT_DATAGRAM_DISPATCH {
            WskReceiveFromEvent;
        }
        WSK_CLIENT_CONNECTION_DISPATCH {
            WskReceiveEvent; WskDisconnectEvent; WskSendBacklogEvent;
        }
        WSK_CLIENT_STREAM_DISPATCH {
            Listen; Connect;
        }
        WSK_PROVIDER_DISPATCH {
            Version; Reserved; WskSocket; WskSocketConnect; WskControlClient; WskGetAddressInfo;
            WskFreeAddressInfo; WskGetNameInfo;
        }
        WSK_PROVIDER_BASIC_DISPATCH {
            WskControlSocket; WskCloseSocket;
        }
        WSK_PROVIDER_LISTEN_DISPATCH {
            WskControlSocket = Basic.WskControlSocket; WskCloseSocket = Basic.WskCloseSocket; WskBind; WskAccept;
            WskInspectComplete; WskGetLocalAddress;
        }
        WSK_PROVIDER_DATAGRAM_DISPATCH {
            WskControlSocket = Basic.WskControlSocket; WskCloseSocket = Basic.WskCloseSocket; WskBind; WskSendTo;
            WskReceiveFrom; WskRelease; WskGetLocalAddress; WskSendMessages;
        }
        WSK_PROVIDER_CONNECTION_DISPATCH {
            WskControlSocket = Basic.WskControlSocket; WskCloseSocket = Basic.WskCloseSocket; WskBind; WskConnect;
            WskGetLocalAddress; WskGetRemoteAddress; WskSend; WskReceive; WskDisconnect; WskRelease; WskConnectEx;
        }
        WSK_PROVIDER_STREAM_DISPATCH {
            WskControlSocket = Basic.WskControlSocket; WskCloseSocket = Basic.WskCloseSocket; WskBind; WskAccept;
            WskConnect; WskListen; WskSend; WskReceive; WskDisconnect; WskRelease; WskGetLocalAddress;
            WskGetRemoteAddress; WskConnectEx;
        }
        WSK_CLIENT_NPI {
            ClientContext; Dispatch;
        }
        WSK_PROVIDER_NPI {
            Client; Dispatch;
        }
        WSK_REGISTRATION {
            ReservedRegistrationState; ReservedRegistrationContext; ReservedRegistrationLock;
        }
    }
}

/// An offset in bytes, or, of a bit-field, in eighths of a byte: its bits.
fn bits_of_offset(offset: &str) -> usize {
    let (bytes, eighths) = offset.split_once('.').unwrap_or((offset, "0"));
    let thousandths: usize = format!("{eighths:0<3}").parse().expect("a decimal fraction");
    8 * bytes.parse::<usize>().expect("a number") + thousandths / 125
}

#[test]
fn structures_are_laid_out_as_in_the_headers() {
    let types = CTypes::new();
    let ours = structures();
    let mut current = None;
    let (mut structures_seen, mut fields_seen) = (0, 0);
    for row in super::rows(include_str!("wsk_layout.tsv")) {
        if let [name, size, align] = row[..] {
            let structure = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(structure.size, size.parse::<usize>().expect("a size"), "size of {name}");
            assert_eq!(structure.align, align.parse::<usize>().expect("an alignment"), "alignment of {name}");
            current = Some((name, structure));
            structures_seen += 1;
            continue;
        }
        let [_, field, offset, size, c_type] = row[..] else { panic!("not a row: {row:?}") };
        let (name, structure) = current.expect("a field follows its structure");
        let first_bit = bits_of_offset(offset);
        let size: usize = size.parse().expect("a size");
        let found = structure.fields.get(field).unwrap_or_else(|| panic!("{name}.{field} is missing"));
        let expected = match found {
            Field::View { .. } if c_type == "bits" => Field::View { first_bit, bits: size },
            Field::View { .. } => Field::View { first_bit, bits: 8 * size },
            Field::Place { .. } => Field::Place { offset: first_bit / 8, size, rust_type: types.rust(c_type) },
        };
        assert_eq!(found, &expected, "{name}.{field}");
        fields_seen += 1;
    }
    assert_eq!(structures_seen, ours.len());
    assert_eq!(fields_seen, ours.values().map(|structure| structure.fields.len()).sum::<usize>());
    assert_eq!(structures_seen, 105);
}
