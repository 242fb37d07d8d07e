//! A strict reader of INF files: what Windows' parser would guess about is an error here.

use std::collections::BTreeMap;

/// A line of a section: `key = value, value` or, without a key, the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) key: Option<String>,
    /// With the strings of `[Strings]` put in.
    pub(crate) values: Vec<String>,
}

/// An INF, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Inf {
    /// Sections by name in lower case, with the name as it stands there.
    sections: BTreeMap<String, (String, Vec<Line>)>,
}

/// A value, before strings are put in.
struct Raw {
    text: String,
    quoted: bool,
}

/// Number, key and values.
type RawLine = (usize, Option<String>, Vec<Raw>);

/// Longest name of a section.
const LONGEST_NAME: usize = 255;

impl Inf {
    /// Reads an INF; what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(at) = text.bytes().position(|byte| !byte.is_ascii()) {
            return Err(format!("byte {at} is not ASCII: the file would have to be UTF-16"));
        }
        let mut raw: BTreeMap<String, (String, Vec<RawLine>)> = BTreeMap::new();
        let mut current = None;
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            let line = without_comment(line).map_err(|error| format!("line {number}: {error}"))?.trim();
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']').ok_or_else(|| format!("line {number}: [ without ]"))?;
                if name.is_empty() || name.len() > LONGEST_NAME || name.contains(['[', ']', '"', '%', ';', '\\']) {
                    return Err(format!("line {number}: {name:?} is no name of a section"));
                }
                let key = name.to_lowercase();
                if raw.insert(key.clone(), (name.to_owned(), Vec::new())).is_some() {
                    return Err(format!("line {number}: there are two sections [{name}]"));
                }
                current = Some(key);
                continue;
            }
            let section = current.as_ref().ok_or_else(|| format!("line {number} is in no section"))?;
            let (key, values) = entry(line).map_err(|error| format!("line {number}: {error}"))?;
            raw.get_mut(section).expect("just inserted").1.push((number, key, values));
        }
        let strings = strings(raw.get("strings").map_or(&[], |(_, lines)| lines))?;
        let mut used = Vec::new();
        let mut sections = BTreeMap::new();
        for (key, (name, lines)) in raw {
            let mut read = Vec::new();
            for (number, key, values) in lines {
                let values: Result<Vec<_>, _> =
                    values.into_iter().map(|value| substitute(&value, &strings, &mut used)).collect();
                read.push(Line { number, key, values: values.map_err(|error| format!("line {number}: {error}"))? });
            }
            sections.insert(key, (name, read));
        }
        if let Some(unused) = strings.keys().find(|key| !used.contains(key)) {
            return Err(format!("nobody uses the string {unused}"));
        }
        Ok(Self { sections })
    }

    /// The lines of a section.
    pub(crate) fn section(&self, name: &str) -> Result<&[Line], String> {
        self.sections.get(&name.to_lowercase()).map(|(_, lines)| &lines[..]).ok_or(format!("there is no [{name}]"))
    }

    /// The names of all sections, as they stand there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.values().map(|(name, _)| name.as_str())
    }

    /// The values of the only line with this key.
    pub(crate) fn values(&self, section: &str, key: &str) -> Result<&[String], String> {
        let mut found = self.section(section)?.iter().filter(|line| line.is(key));
        let line = found.next().ok_or_else(|| format!("[{section}] has no {key}"))?;
        if found.next().is_some() {
            return Err(format!("[{section}] has {key} twice"));
        }
        Ok(&line.values)
    }

    /// The only value of the only line with this key.
    pub(crate) fn value(&self, section: &str, key: &str) -> Result<&str, String> {
        match self.values(section, key)? {
            [value] if !value.is_empty() => Ok(value),
            other => Err(format!("[{section}] {key} has {} values, or none", other.len())),
        }
    }
}

impl Line {
    pub(crate) fn is(&self, key: &str) -> bool {
        self.key.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(key))
    }
}

fn without_comment(line: &str) -> Result<&str, String> {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ';' if !quoted => return Ok(&line[..at]),
            _ => {}
        }
    }
    if quoted { Err("a quotation mark without another".into()) } else { Ok(line) }
}

fn entry(line: &str) -> Result<(Option<String>, Vec<Raw>), String> {
    if line.ends_with('\\') {
        return Err("a line that goes on in the next one".into());
    }
    let first_quote = line.find('"').unwrap_or(line.len());
    let (key, values) = match line[..first_quote].find('=') {
        Some(at) => (Some(line[..at].trim()), &line[at + 1..]),
        None => (None, line),
    };
    if key.is_some_and(|key| key.is_empty() || key.contains([' ', ','])) {
        return Err(format!("{key:?} is no key"));
    }
    let mut values_read = vec![Raw { text: String::new(), quoted: false }];
    let mut quoted = false;
    for character in values.chars() {
        let current = values_read.last_mut().expect("never empty");
        match character {
            '"' => (quoted, current.quoted) = (!quoted, true),
            ',' if !quoted => values_read.push(Raw { text: String::new(), quoted: false }),
            other => current.text.push(other),
        }
    }
    for value in &mut values_read {
        // Blanks around the quotation marks are none of the text's, and no text here begins or ends with its own.
        if !value.quoted || value.text.trim().len() < value.text.len() {
            value.text = value.text.trim().to_owned();
        }
    }
    Ok((key.map(str::to_owned), values_read))
}

fn strings(lines: &[RawLine]) -> Result<BTreeMap<String, String>, String> {
    let mut strings = BTreeMap::new();
    for (number, key, values) in lines {
        let (Some(key), [Raw { text, quoted: true }]) = (key, &values[..]) else {
            return Err(format!("line {number}: a string is NAME = \"text\""));
        };
        if strings.insert(key.to_lowercase(), text.clone()).is_some() {
            return Err(format!("line {number}: there are two strings {key}"));
        }
    }
    Ok(strings)
}

/// Puts strings in for `%name%`; directory identifiers, which are numbers, stay.
fn substitute(value: &Raw, strings: &BTreeMap<String, String>, used: &mut Vec<String>) -> Result<String, String> {
    let mut parts = value.text.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    while let Some(name) = parts.next() {
        let after = parts.next().ok_or("a % without another")?;
        if name.is_empty() {
            text.push('%');
        } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
            text.extend(["%", name, "%"]);
        } else {
            let key = name.to_lowercase();
            text += strings.get(&key).ok_or_else(|| format!("there is no string {name}"))?;
            used.push(key);
        }
        text += after;
    }
    Ok(text)
}
