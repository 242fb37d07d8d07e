//! A page of documentation, as far as these tests read it: sections with text and tables.

/// What stands between a heading and the next one, of whatever level.
pub(crate) struct Section<'a> {
    pub(crate) title: &'a str,
    pub(crate) lines: Vec<&'a str>,
}

/// A table: its columns' names, and rows of as many cells.
pub(crate) struct Table<'a> {
    pub(crate) columns: Vec<&'a str>,
    pub(crate) rows: Vec<Vec<&'a str>>,
}

/// Every section of a page.
pub(crate) fn sections(page: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut code = false;
    for line in page.lines() {
        code ^= line.starts_with("```");
        if let Some(title) = line.strip_prefix('#').filter(|_| !code) {
            sections.push(Section { title: title.trim_start_matches('#').trim(), lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        }
    }
    sections
}

/// The section of that title, which there is once.
pub(crate) fn section<'a>(page: &'a str, title: &str) -> Section<'a> {
    let mut found: Vec<_> = sections(page).into_iter().filter(|section| section.title == title).collect();
    assert_eq!(found.len(), 1, "sections with the title {title}");
    found.remove(0)
}

impl<'a> Section<'a> {
    /// Its tables.
    pub(crate) fn tables(&self) -> Vec<Table<'a>> {
        let mut tables = Vec::new();
        for block in self.lines.split(|line| !line.starts_with('|')).filter(|block| block.len() > 2) {
            let mut rows = block.iter().map(|line| cells(line));
            let columns = rows.next().expect("a heading");
            let rows: Vec<_> = rows.skip(1).collect();
            assert!(rows.iter().all(|row| row.len() == columns.len()), "a row of {} is too short", self.title);
            tables.push(Table { columns, rows });
        }
        tables
    }

    /// The table whose first column has this name, which there is once.
    pub(crate) fn table(&self, first: &str) -> Table<'a> {
        let mut found: Vec<_> = self.tables().into_iter().filter(|table| table.columns[0] == first).collect();
        assert_eq!(found.len(), 1, "tables of {} that begin with {first}", self.title);
        found.remove(0)
    }

    /// The line that starts so, which there is once.
    pub(crate) fn line(&self, start: &str) -> &'a str {
        let found: Vec<_> = self.lines.iter().filter(|line| line.starts_with(start)).collect();
        assert_eq!(found.len(), 1, "lines of {} that begin with {start}", self.title);
        found[0]
    }
}

fn cells(line: &str) -> Vec<&str> {
    let inside = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).expect("a row");
    inside.split('|').map(|cell| cell.trim().trim_matches('`')).collect()
}

/// A decimal number.
pub(crate) fn number(cell: &str) -> usize {
    cell.parse().unwrap_or_else(|_| panic!("no number: {cell}"))
}
