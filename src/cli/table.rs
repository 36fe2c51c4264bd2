//! Columns of text, as Ollama prints them: left-aligned, four blanks between, no rules.

/// Lays out `rows` under `header`.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}    "));
        padded.collect::<String>() + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["tiny:latest".to_owned(), "3.8 MB".to_owned()]];
        assert_eq!(super::table(&["NAME", "SIZE"], &rows), "NAME           SIZE      \ntiny:latest    3.8 MB    \n");
    }
}
