//! Tables for people: aligned columns, colour where it is wanted, nothing from the store that could
//! move the cursor.

/// The longest cell; a longer text is cut, `--json` shows it whole.
const CELL_MAX: usize = 56;
/// What stands between two columns.
const GAP: &str = "  ";

/// How a cell is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// A cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        let clean = text.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c });
        let text = clean.clone().take(CELL_MAX).collect::<String>();
        let whole = clean.count() <= CELL_MAX;
        let text = if whole { text } else { text.chars().take(CELL_MAX - 1).chain(['…']).collect() };
        Self { text, tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self::toned(value.to_string(), Tone::Plain)
    }
}

/// The side that a column's cells keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table<const N: usize> {
    heads: [(&'static str, Side); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heads: [(&'static str, Side); N]) -> Self {
        Self { heads, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The table as lines, each with its line end.
    pub(crate) fn render(&self, colour: bool) -> String {
        let mut widths = self.heads.map(|(head, _)| head.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let mut out = String::new();
        let heads = self.heads.map(|(head, _)| Cell::from(head));
        self.line(&mut out, &heads, &widths, |_| colour.then_some("1"));
        for row in &self.rows {
            self.line(&mut out, row, &widths, |cell| cell.tone.code().filter(|_| colour));
        }
        out
    }

    fn line(
        &self,
        out: &mut String,
        cells: &[Cell; N],
        widths: &[usize; N],
        code: impl Fn(&Cell) -> Option<&'static str>,
    ) {
        let start = out.len();
        for (place, ((cell, width), (_, side))) in cells.iter().zip(widths).zip(self.heads).enumerate() {
            if place > 0 {
                out.push_str(GAP);
            }
            let space = " ".repeat(width.saturating_sub(cell.width()));
            let text = match code(cell) {
                Some(code) => format!("\x1b[{code}m{}\x1b[0m", cell.text),
                None => cell.text.clone(),
            };
            match side {
                Side::Left => out.extend([text.as_str(), &space]),
                Side::Right => out.extend([space.as_str(), &text]),
            }
        }
        out.truncate(out.trim_end_matches(' ').len().max(start));
        out.push('\n');
    }
}

/// Cents as people write them: `12.34`.
pub(crate) fn price(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A number of bytes as people write it: `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut scaled, mut unit) = (count / 1024 * 10 + count % 1024 * 10 / 1024, 0);
    if count < 1024 {
        return format!("{count} B");
    }
    while scaled >= 10_240 && unit + 1 < units.len() {
        scaled /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", scaled / 10, scaled % 10, units[unit])
}

/// Pairs of a name and a text, a line each, the texts aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for (name, text) in pairs {
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.push_str(&format!("{name:width$}{GAP}{clean}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new([("id", Side::Right), ("title", Side::Left), ("stock", Side::Right)]);
        table.row([1.into(), "Ünïcode".into(), Cell::toned("0", Tone::Bad)]);
        table.row([12.into(), "b\x1b[2J".into(), 345.into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_texts_tame() {
        let expected = "id  title    stock\n 1  Ünïcode      0\n12  b [2J      345\n";
        assert_eq!(table().render(false), expected);
    }

    #[test]
    fn colour_does_not_move_columns() {
        let plain =
            table().render(true).replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(plain, table().render(false));
        assert!(table().render(true).contains("\x1b[31m0\x1b[0m"));
    }

    #[test]
    fn a_long_text_is_cut_and_shows_it() {
        assert_eq!(Cell::from("x".repeat(56)).text, "x".repeat(56));
        assert_eq!(Cell::from("x".repeat(57)).text, format!("{}…", "x".repeat(55)));
    }

    #[test]
    fn prices_and_sizes_read_well() {
        for (cents, expected) in [(0, "0.00"), (5, "0.05"), (1234, "12.34"), (100_000_000, "1000000.00")] {
            assert_eq!(price(cents), expected);
        }
        for (count, expected) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB")] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn pairs_are_aligned() {
        let text = pairs(&[("id", "1".into()), ("title", "a\nb".into())]);
        assert_eq!(text, "id     1\ntitle  a b\n");
    }
}
