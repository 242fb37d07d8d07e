//! The configuration file.
//!
//! ```toml
//! # What the SAN provider serves. The longest prefix that holds a target counts.
//! [[subnet]]
//! prefix = "10.77.0.0/16"
//! local = "10.77.0.5"       # to connect from; without it, the address that routing chooses
//!
//! [session]
//! receive-count = 16        # receives that each stream keeps posted
//! receive-size = 16384      # bytes of each
//! send-count = 8            # messages on their way before a write waits
//!
//! [timeouts]                # milliseconds
//! connect = 5000            # for the SAN, before TCP/IP is tried
//! negotiate = 5000
//! linger = 120000
//!
//! [listen]
//! backlog = 128
//! ```

use super::config::SwitchConfig;
use super::subnet::{Prefix, Subnet};
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::{Document, Item, TableLike, Value};

/// What is wrong with a configuration: shown as `FILE:LINE: KEY: what`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if it came from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1; 0 if it is about the whole file.
    pub line: usize,
    /// The key, with the tables around it: `session.receive-size`. Empty if it is about none.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(formatter, "{}", file.display())?,
            None => formatter.write_str("configuration")?,
        }
        if self.line != 0 {
            write!(formatter, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// What is wrong, where in the text, and with which key.
struct Fault {
    span: Option<Range<usize>>,
    key: String,
    message: String,
}

type Checked<T> = Result<T, Fault>;

impl SwitchConfig {
    /// Reads a configuration file. What it does not say has its default.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no TOML, or says something that means nothing: with its line and key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let in_file = |error| ConfigError { file: Some(path.to_owned()), ..error };
        let text = fs::read_to_string(path).map_err(|error| {
            in_file(ConfigError {
                file: None,
                line: 0,
                key: String::new(),
                message: format!("cannot be read: {error}"),
            })
        })?;
        Self::parse(&text).map_err(in_file)
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        read(text).map_err(|Fault { span, key, message }| ConfigError {
            file: None,
            line: span.map_or(0, |span| line(text, span.start)),
            key,
            message,
        })
    }
}

/// The line of a place in a text, counted from 1.
fn line(text: &str, place: usize) -> usize {
    1 + text.bytes().take(place).filter(|&byte| byte == b'\n').count()
}

fn read(text: &str) -> Checked<SwitchConfig> {
    let document = Document::parse(text).map_err(|error| Fault {
        span: error.span(),
        key: String::new(),
        message: error.message().to_owned(),
    })?;
    let mut config = SwitchConfig::default();
    each(document.as_table(), "", |entry| match entry.name {
        "subnet" => entry.read_subnets(&mut config),
        "session" => each(entry.table()?, "session.", |entry| {
            match entry.name {
                "receive-count" => config.receives.count = entry.number(1..=65_536)?,
                "receive-size" => config.receives.size = entry.number(SwitchConfig::MIN_RECEIVE_SIZE..=1 << 30)?,
                "send-count" => config.send_count = entry.number(1..=65_536)?,
                _ => return Err(entry.unknown()),
            }
            Ok(())
        }),
        "timeouts" => each(entry.table()?, "timeouts.", |entry| {
            let time = match entry.name {
                "connect" => &mut config.connect_timeout,
                "negotiate" => &mut config.negotiate_timeout,
                "linger" => &mut config.linger,
                _ => return Err(entry.unknown()),
            };
            *time = Duration::from_millis(entry.number(1..=86_400_000)?);
            Ok(())
        }),
        "listen" => each(entry.table()?, "listen.", |entry| {
            match entry.name {
                "backlog" => config.backlog = entry.number(1..=65_536)?,
                _ => return Err(entry.unknown()),
            }
            Ok(())
        }),
        _ => Err(entry.unknown()),
    })?;
    Ok(config)
}

/// One key of a table, and what it stands for.
struct Entry<'file> {
    /// The tables around it, each with a dot behind it.
    within: &'file str,
    name: &'file str,
    span: Option<Range<usize>>,
    item: &'file Item,
}

/// Reads every key of a table.
fn each(table: &dyn TableLike, within: &str, mut read: impl FnMut(Entry<'_>) -> Checked<()>) -> Checked<()> {
    table.iter().try_for_each(|(name, item)| {
        let span = item.span().or_else(|| table.key(name).and_then(toml_edit::Key::span));
        read(Entry { within, name, span, item })
    })
}

impl Entry<'_> {
    fn fault(&self, message: impl fmt::Display) -> Fault {
        Fault { span: self.span.clone(), key: format!("{}{}", self.within, self.name), message: message.to_string() }
    }

    fn unknown(&self) -> Fault {
        self.fault("there is no such key")
    }

    fn table(&self) -> Checked<&dyn TableLike> {
        self.item.as_table_like().ok_or_else(|| self.fault("a table is expected"))
    }

    fn number<T: TryFrom<i64> + PartialOrd + fmt::Display>(&self, range: RangeInclusive<T>) -> Checked<T> {
        let number = self.item.as_integer().and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.fault(format_args!("a number from {} to {} is expected", range.start(), range.end())))
    }

    fn text(&self) -> Checked<&str> {
        self.item.as_str().ok_or_else(|| self.fault("a string is expected"))
    }

    /// `[[subnet]]`, or an array of inline tables.
    fn read_subnets(&self, config: &mut SwitchConfig) -> Checked<()> {
        let mut add = |table: &dyn TableLike, span: Option<Range<usize>>| {
            let subnet = read_subnet(table, span.clone())?;
            match config.subnets.insert(subnet) {
                None => Ok(()),
                Some(_) => Err(Fault {
                    span: table.get("prefix").and_then(Item::span).or(span),
                    key: "subnet.prefix".into(),
                    message: format!("{} is there twice", subnet.prefix),
                }),
            }
        };
        let expected = || self.fault("tables are expected: [[subnet]]");
        match self.item {
            Item::ArrayOfTables(tables) => tables.iter().try_for_each(|table| add(table, table.span())),
            Item::Value(Value::Array(tables)) => tables.iter().try_for_each(|value| {
                let table = value.as_inline_table().ok_or_else(expected)?;
                add(table, value.span())
            }),
            Item::None | Item::Value(_) | Item::Table(_) => Err(expected()),
        }
    }
}

fn read_subnet(table: &dyn TableLike, span: Option<Range<usize>>) -> Checked<Subnet> {
    let (mut prefix, mut local) = (None, None);
    each(table, "subnet.", |entry| {
        match entry.name {
            "prefix" => prefix = Some(entry.text()?.parse::<Prefix>().map_err(|error| entry.fault(error))?),
            "local" => {
                let address: IpAddr =
                    entry.text()?.parse().map_err(|_| entry.fault("an IPv4 or IPv6 address is expected"))?;
                local = Some((address, entry.fault("it is of another address family than the prefix")));
            }
            _ => return Err(entry.unknown()),
        }
        Ok(())
    })?;
    let missing = || Fault { span, key: "subnet.prefix".into(), message: "it is missing".into() };
    let prefix = prefix.ok_or_else(missing)?;
    match local {
        None => Ok(Subnet { prefix, local: None }),
        Some((local, _)) if local.is_ipv4() == prefix.address().is_ipv4() => Ok(Subnet { prefix, local: Some(local) }),
        Some((_, other_family)) => Err(other_family),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::ReceiveWindow;

    /// The example of this module.
    fn example() -> String {
        let source = include_str!("file.rs");
        let lines = source.lines().skip_while(|line| *line != "//! ```toml").skip(1);
        lines.take_while(|line| *line != "//! ```").map(|line| line[3..].trim_start().to_owned() + "\n").collect()
    }

    #[test]
    fn the_example_is_the_default_and_a_subnet() {
        let local = Some("10.77.0.5".parse().unwrap());
        let subnet = Subnet { prefix: "10.77.0.0/16".parse().unwrap(), local };
        assert_eq!(SwitchConfig::parse(&example()), Ok(SwitchConfig::default().with_subnet(subnet)));
        assert_eq!(SwitchConfig::parse(""), Ok(SwitchConfig::default()));
    }

    #[test]
    fn every_key_is_read() {
        let text = "subnet = [{ prefix = '::/0' }, { prefix = 'fd00::/8', local = '::1' }]
            session = { receive-count = 3, receive-size = 4096, send-count = 2 }
            timeouts.connect = 1
            timeouts.negotiate = 20
            timeouts.linger = 300
            [listen]
            backlog = 7";
        let read = SwitchConfig::parse(text).unwrap();
        assert_eq!(read.receives, ReceiveWindow { count: 3, size: 4096 });
        assert_eq!((read.send_count, read.backlog), (2, 7));
        let times = [read.connect_timeout, read.negotiate_timeout, read.linger];
        assert_eq!(times.map(|time| time.as_millis()), [1, 20, 300]);
        let prefixes: Vec<_> = read.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
        assert_eq!(prefixes, ["fd00::/8", "::/0"]);
    }

    #[test]
    fn errors_name_line_and_key() {
        for (text, line, key, message) in [
            ("\n\nsubnets = []", 3, "subnets", "no such key"),
            ("subnet = 7", 1, "subnet", "[[subnet]]"),
            ("subnet = [7]", 1, "subnet", "[[subnet]]"),
            ("[subnet]\nprefix = '::/0'", 1, "subnet", "[[subnet]]"),
            ("\n[[subnet]]\nlocal = '::1'", 2, "subnet.prefix", "missing"),
            ("[[subnet]]\nprefix = '10.0.0.1/8'", 2, "subnet.prefix", "bits set past"),
            ("[[subnet]]\nprefix = 10", 2, "subnet.prefix", "string"),
            ("[[subnet]]\nprefix = '::/0'\n\nlocal = 'me'", 4, "subnet.local", "address"),
            ("[[subnet]]\nlocal = '::1'\nprefix = '10.0.0.0/8'", 2, "subnet.local", "family"),
            ("[[subnet]]\nprefix = '::/0'\n[[subnet]]\nprefix = '::/0'", 4, "subnet.prefix", "::/0 is there twice"),
            ("[[subnet]]\nprefix = '::/0'\nmetric = 3", 3, "subnet.metric", "no such key"),
            ("session = 1", 1, "session", "table"),
            ("[session]\nreceive-count = 0", 2, "session.receive-count", "from 1 to 65536"),
            ("[session]\nreceive-size = 63", 2, "session.receive-size", "from 64 to"),
            ("[session]\nreceive-size = -1", 2, "session.receive-size", "from 64 to"),
            ("[session]\nsend-count = '8'", 2, "session.send-count", "number"),
            ("[session]\nwindow = 8", 2, "session.window", "no such key"),
            ("[timeouts]\n\nconnect = 0", 3, "timeouts.connect", "from 1 to"),
            ("[timeouts]\nlinger = 1.5", 2, "timeouts.linger", "number"),
            ("[timeouts]\nread = 1", 2, "timeouts.read", "no such key"),
            ("[listen]\nbacklog = 100000", 2, "listen.backlog", "from 1 to 65536"),
            ("[listen]\nport = 1", 2, "listen.port", "no such key"),
            ("[session]\n\nreceive-count = ", 3, "", ""),
            ("[session]\nsend-count = 1\nsend-count = 2", 3, "", "duplicate"),
        ] {
            let error = SwitchConfig::parse(text).expect_err(text);
            assert_eq!((error.line, &*error.key), (line, key), "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn errors_of_a_file_name_it() {
        let file = std::env::temp_dir().join(format!("sanwsk-switch-{}.toml", std::process::id()));
        fs::write(&file, "[listen]\nbacklog = -1\n").unwrap();
        let error = SwitchConfig::load(&file).unwrap_err();
        fs::remove_file(&file).unwrap();
        let shown = error.to_string();
        assert_eq!(shown, format!("{}:2: listen.backlog: a number from 1 to 65536 is expected", file.display()));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
        let missing = SwitchConfig::load(&file).unwrap_err().to_string();
        assert!(missing.starts_with(&format!("{}: cannot be read: ", file.display())), "{missing}");
    }
}
