//! The table, the CSV file and the picture.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::at_percentile;
use crate::memory::Memory;

/// Which of two figures is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// What came of one round, which measures both paths right after each other.
pub(crate) struct Round<T> {
    pub(crate) driver: T,
    pub(crate) plain: T,
}

/// One figure of both paths, in each round.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) rounds: Vec<Round<f64>>,
}

/// What a row comes to: medians of the rounds. The ratio is the driver's figure over the plain sockets' of the same round.
struct Summary {
    name: String,
    unit: &'static str,
    better: &'static str,
    driver: f64,
    plain: f64,
    ratio: f64,
    /// Least and greatest ratio of a round.
    range: [f64; 2],
}

impl Row {
    fn summary(self) -> Result<Summary> {
        let of = |figure: fn(&Round<f64>) -> f64| self.rounds.iter().map(figure).collect::<Vec<_>>();
        let ratios = of(|round| round.driver / round.plain);
        Ok(Summary {
            driver: at_percentile(&of(|round| round.driver), 50)?,
            plain: at_percentile(&of(|round| round.plain), 50)?,
            ratio: at_percentile(&ratios, 50)?,
            range: [at_percentile(&ratios, 0)?, at_percentile(&ratios, 100)?],
            better: match self.better {
                Better::Higher => "higher is better",
                Better::Lower => "lower is better",
            },
            name: self.name,
            unit: self.unit,
        })
    }
}

/// Prints the table and writes the files.
pub(crate) fn write(rows: Vec<Row>, memory: &Memory, took: Duration) -> Result<()> {
    let rows = rows.into_iter().map(Row::summary).collect::<Result<Vec<_>>>()?;
    print!("{}", table(&rows, memory)?);
    let folder = driver_build::workspace_root().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    println!();
    for (name, text) in [("stream.csv", csv(&rows, memory)?), ("stream.svg", svg(&rows)?)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    println!("measured in {:.0} s", took.as_secs_f64());
    Ok(())
}

fn table(rows: &[Summary], memory: &Memory) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "one TCP stream on loopback: sanwsk.sys in the harness, and plain sockets in the same run\n")?;
    writeln!(text, "{:<28} {:>12} {:>12} {:<6} {:>6}  {:<12}", "", "driver", "plain", "", "ratio", "of rounds")?;
    for row in rows {
        let Summary { name, unit, better, driver, plain, ratio, range: [least, greatest] } = row;
        let range = format!("{least:.2}..{greatest:.2}");
        writeln!(text, "{name:<28} {driver:>12.1} {plain:>12.1} {unit:<6} {ratio:>6.2}  {range:<12} {better}")?;
    }
    writeln!(text, "\n{:<28} {:>12} {:>12} {:>12}", "pool allocations", "in all", "any request", "driver's own")?;
    for operation in &memory.operations {
        let (all, any, own) = (operation.all, operation.any_request, operation.own());
        writeln!(text, "{:<28} {all:>12.3} {any:>12.3} {own:>12.3}", operation.name)?;
    }
    let (framework, own) = (memory.pending_framework, memory.pending_own);
    writeln!(text, "{:<28} {:>12} {framework:>12.3} {own:>12.3}", "live, a pending receive", "")?;
    Ok(text)
}

fn csv(rows: &[Summary], memory: &Memory) -> Result<String> {
    let mut text = "measure,unit,driver,plain,ratio,least ratio,greatest ratio\n".to_owned();
    for row in rows {
        let Summary { name, unit, driver, plain, ratio, range: [least, greatest], .. } = row;
        writeln!(text, "\"{name}\",{unit},{driver:.3},{plain:.3},{ratio:.4},{least:.4},{greatest:.4}")?;
    }
    for operation in &memory.operations {
        let (name, any, own) = (operation.name, operation.any_request, operation.own());
        writeln!(text, "\"{name}, any request\",pool allocations,{any:.4},,,,")?;
        writeln!(text, "\"{name}, driver's own\",pool allocations,{own:.4},,,,")?;
    }
    writeln!(text, "\"pending receive, framework\",pool blocks,{:.4},,,,", memory.pending_framework)?;
    writeln!(text, "\"pending receive, driver's own\",pool blocks,{:.4},,,,", memory.pending_own)?;
    Ok(text)
}

/// Height of a figure's place in the picture, and of a bar, in pixels.
const PLACE: u32 = 60;
const BAR: u32 = 18;
/// Where bars begin, and how long the longest is.
const LEFT: u32 = 210;
const LONGEST: f64 = 400.0;
/// Where the first figure's place begins.
const TOP: u32 = 60;

/// A pair of bars for each figure, to the scale of the longer one.
fn svg(rows: &[Summary]) -> Result<String> {
    const COLOURS: [(&str, &str); 2] = [("driver", "#b7410e"), ("plain sockets", "#6b7f94")];
    let height = TOP + PLACE * u32::try_from(rows.len())?;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 840 {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"840\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\">One TCP stream on loopback, in the harness</text>\n"
    );
    for ((name, colour), x) in COLOURS.into_iter().zip([LEFT, LEFT + 90]) {
        writeln!(text, "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>")?;
        writeln!(text, "<text x=\"{}\" y=\"45\">{name}</text>", x + 18)?;
    }
    for (row, top) in rows.iter().zip((TOP..).step_by(PLACE as usize)) {
        let Summary { name, unit, better, ratio, .. } = row;
        writeln!(text, "<text x=\"16\" y=\"{}\">{name}</text>", top + 16)?;
        writeln!(text, "<text x=\"16\" y=\"{}\" fill=\"#777\">{better}</text>", top + 34)?;
        let scale = LONGEST / row.driver.max(row.plain);
        let bars = [
            (row.driver, format!("{:.1} {unit} ({ratio:.2} of plain)", row.driver)),
            (row.plain, format!("{:.1} {unit}", row.plain)),
        ];
        for (((value, label), (_, colour)), y) in bars.into_iter().zip(COLOURS).zip([top, top + BAR + 2]) {
            let length = value * scale;
            writeln!(text, "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>")?;
            let beside = f64::from(LEFT) + length + 6.0;
            writeln!(text, "<text x=\"{beside:.1}\" y=\"{}\">{label}</text>", y + 14)?;
        }
    }
    text.push_str("</svg>\n");
    Ok(text)
}
