//! TCP: the header and its options. All fields are in network byte order; the structures are packed, since a header may
//! begin anywhere in a packet.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::bits::bits;
use crate::nt::{UINT8, UINT16, UINT32};

/// A TCP sequence number.
pub type SEQ_NUM = UINT32;
/// Points to a [`SEQ_NUM`].
pub type PSEQ_NUM = *mut SEQ_NUM;

/// A TCP header, without options (RFC 9293).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_hdr {
    /// Source port.
    pub th_sport: UINT16,
    /// Destination port.
    pub th_dport: UINT16,
    /// Sequence number.
    pub th_seq: SEQ_NUM,
    /// Acknowledgement number.
    pub th_ack: SEQ_NUM,
    /// `th_x2` and `th_len`. In C this byte has no name.
    pub th_x2_len: UINT8,
    /// `TH_*`.
    pub th_flags: UINT8,
    /// Window.
    pub th_win: UINT16,
    /// Checksum.
    pub th_sum: UINT16,
    /// Urgent pointer.
    pub th_urp: UINT16,
}

bits! { tcp_hdr { th_x2_len } as UINT8 {
    /// Reserved.
    th_x2 / set_th_x2: 0, 4 => UINT8;
    /// Length of the header with its options, in units of four bytes.
    th_len / set_th_len: 4, 4 => UINT8;
}}

/// See [`tcp_hdr`].
pub type TCP_HDR = tcp_hdr;
/// Points to a [`tcp_hdr`].
pub type PTCP_HDR = *mut tcp_hdr;

/// Bytes of the longest TCP header, with options.
pub const TH_MAX_LEN: UINT32 = 0x0f << 2;
/// Flag: no more data.
pub const TH_FIN: UINT8 = 0x01;
/// Flag: the first segment.
pub const TH_SYN: UINT8 = 0x02;
/// Flag: reset.
pub const TH_RST: UINT8 = 0x04;
/// Flag: push.
pub const TH_PSH: UINT8 = 0x08;
/// Flag: `th_ack` is valid.
pub const TH_ACK: UINT8 = 0x10;
/// Flag: `th_urp` is valid.
pub const TH_URG: UINT8 = 0x20;
/// Flag: congestion was experienced.
pub const TH_ECE: UINT8 = 0x40;
/// Flag: the congestion window was reduced.
pub const TH_CWR: UINT8 = 0x80;
/// All flags.
pub const TH_ALL: UINT8 = TH_FIN | TH_SYN | TH_RST | TH_PSH | TH_ACK | TH_URG | TH_ECE | TH_CWR;
/// The flags that matter to whether a segment is a first one.
pub const TH_SYN_ALL: UINT8 = TH_FIN | TH_SYN | TH_RST | TH_ACK;

/// Option: end of the list; one byte.
pub const TH_OPT_EOL: UINT8 = 0x00;
/// Option: padding; one byte.
pub const TH_OPT_NOP: UINT8 = 0x01;
/// Option: [`tcp_opt_mss`].
pub const TH_OPT_MSS: UINT8 = 0x02;
/// Option: [`tcp_opt_ws`].
pub const TH_OPT_WS: UINT8 = 0x03;
/// Option: [`tcp_opt_sack_permitted`].
pub const TH_OPT_SACK_PERMITTED: UINT8 = 0x04;
/// Option: [`tcp_opt_sack`].
pub const TH_OPT_SACK: UINT8 = 0x05;
/// Option: [`tcp_opt_ts`].
pub const TH_OPT_TS: UINT8 = 0x08;
/// Option: [`tcp_opt_fastopen`].
pub const TH_OPT_FASTOPEN: UINT8 = 0x22;

/// Maximum segment size.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_mss {
    /// [`TH_OPT_MSS`].
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
    /// The size in bytes.
    pub Mss: UINT16,
}

/// See [`tcp_opt_mss`].
pub type TCP_OPT_MSS = tcp_opt_mss;

/// Window scale (RFC 7323).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_ws {
    /// [`TH_OPT_WS`].
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
    /// Bits to shift windows by.
    pub ShiftCnt: UINT8,
}

/// See [`tcp_opt_ws`].
pub type TCP_OPT_WS = tcp_opt_ws;

/// Selective acknowledgements may be sent (RFC 2018).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_sack_permitted {
    /// [`TH_OPT_SACK_PERMITTED`].
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
}

/// See [`tcp_opt_sack_permitted`].
pub type TCP_OPT_SACK_PERMITTED = tcp_opt_sack_permitted;

/// One range of a [`tcp_opt_sack`].
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_sack_block {
    /// Its first sequence number.
    pub Left: SEQ_NUM,
    /// The one after its last.
    pub Right: SEQ_NUM,
}

/// Selective acknowledgements (RFC 2018).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_sack {
    /// [`TH_OPT_SACK`].
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
    /// Where the ranges begin.
    pub Block: [tcp_opt_sack_block; 0],
}

/// See [`tcp_opt_sack`].
pub type TCP_OPT_SACK = tcp_opt_sack;

/// Time stamps (RFC 7323).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_ts {
    /// [`TH_OPT_TS`].
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
    /// The sender's time.
    pub Val: UINT32,
    /// The time that is echoed.
    pub EcR: UINT32,
}

/// See [`tcp_opt_ts`].
pub type TCP_OPT_TS = tcp_opt_ts;

/// The beginning of any option longer than a byte.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_unknown {
    /// `TH_OPT_*`.
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
}

/// See [`tcp_opt_unknown`].
pub type TCP_OPT_UNKNOWN = tcp_opt_unknown;

/// TCP Fast Open (RFC 7413).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tcp_opt_fastopen {
    /// [`TH_OPT_FASTOPEN`].
    pub Kind: UINT8,
    /// Bytes of the option.
    pub Length: UINT8,
    /// Where the cookie begins; 4 to 16 bytes, or none in a request.
    pub Cookie: [UINT8; 0],
}

/// See [`tcp_opt_fastopen`].
pub type TCP_OPT_FASTOPEN = tcp_opt_fastopen;
