//! The picture: a bar for each figure.

use std::fmt::Write;

use anyhow::Result;

use super::figures::Section;

/// Width of the picture, in pixels.
const WIDTH: u32 = 760;
/// Where bars begin, and how long the longest is.
const LEFT: u32 = 150;
const LONGEST: f64 = 420.0;
/// Heights: of a section's heading, of a bar with the gap under it, of the gap under a row, of the margins.
const HEADING: u32 = 64;
const BAR: u32 = 16;
const GAP: u32 = 10;
const MARGIN: u32 = 20;

/// A colour for each column.
const COLOURS: [&str; 5] = ["#6b7f94", "#d9a441", "#b7410e", "#e08e6d", "#5a8f69"];

fn height(section: &Section) -> Result<u32> {
    let (rows, columns) = (u32::try_from(section.rows.len())?, u32::try_from(section.columns.len())?);
    Ok(HEADING + rows * (columns * BAR + GAP) + MARGIN)
}

/// Draws the sections one under the other, each row to the scale of its longest bar.
pub(crate) fn draw(sections: &[Section]) -> Result<String> {
    let heights = sections.iter().map(height).collect::<Result<Vec<_>>>()?;
    let total = 2 * MARGIN + heights.iter().sum::<u32>();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{total}\" fill=\"#fff\"/>\n"
    );
    let mut top = MARGIN;
    for (section, height) in sections.iter().zip(heights) {
        draw_section(&mut text, section, top)?;
        top += height;
    }
    text.push_str("</svg>\n");
    Ok(text)
}

fn draw_section(text: &mut String, section: &Section, top: u32) -> Result<()> {
    let Section { title, unit, better, columns, ratios, rows } = section;
    writeln!(text, "<text x=\"16\" y=\"{}\" font-size=\"15\">{title}</text>", top + 16)?;
    writeln!(text, "<text x=\"16\" y=\"{}\" fill=\"#777\">{unit}, {}</text>", top + 34, better.name())?;
    for ((name, colour), x) in columns.iter().zip(COLOURS).zip((LEFT..).step_by(100)) {
        writeln!(text, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>", top + 43)?;
        writeln!(text, "<text x=\"{}\" y=\"{}\">{name}</text>", x + 18, top + 53)?;
    }
    let mut top = top + HEADING;
    for row in rows {
        writeln!(text, "<text x=\"16\" y=\"{}\">{}</text>", top + 12, row.name)?;
        let values = (0..columns.len()).map(|column| row.median(column)).collect::<Result<Vec<_>>>()?;
        let longest = values.iter().copied().fold(0.0, f64::max);
        for (column, (value, colour)) in values.into_iter().zip(COLOURS).enumerate() {
            let length = LONGEST * value / longest;
            let bar = BAR - 2;
            writeln!(
                text,
                "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"{bar}\" fill=\"{colour}\"/>"
            )?;
            let mut label = format!("{value:.1}");
            // Its first comparison says most.
            if let Some(ratio @ [_, over]) = ratios.iter().find(|[of, _]| *of == column) {
                write!(label, " ({:.2} of {})", row.ratio(*ratio)?.median, columns[*over])?;
            }
            let beside = f64::from(LEFT) + length + 6.0;
            writeln!(text, "<text x=\"{beside:.1}\" y=\"{}\">{label}</text>", top + 12)?;
            top += BAR;
        }
        top += GAP;
    }
    Ok(())
}
