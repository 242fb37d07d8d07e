//! The tables, the CSV file and the picture.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::allocations::Allocations;
use super::figures::{Ratio, Section};
use super::picture;

/// Prints the tables and writes the files.
pub(crate) fn write(sections: &[Section], allocations: &Allocations, took: Duration) -> Result<()> {
    print!("{}", tables(sections, allocations)?);
    let folder = driver_build::workspace_root().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    println!();
    for (name, text) in [("transfer.csv", csv(sections, allocations)?), ("transfer.svg", picture::draw(sections)?)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    println!("measured in {:.0} s", took.as_secs_f64());
    Ok(())
}

fn tables(sections: &[Section], allocations: &Allocations) -> Result<String> {
    let mut text =
        "TCP on loopback: sanwsk.sys in the harness, and plain sockets in the same run. Medians of the rounds;\n\
                    ratios are of one round, with the least and the greatest.\n"
            .to_owned();
    for section in sections {
        let Section { title, unit, better, columns, ratios, rows } = section;
        writeln!(text, "\n{title} ({unit}, {})", better.name())?;
        write!(text, "{:<24}", "")?;
        for column in columns {
            write!(text, "{column:>12}")?;
        }
        for [of, over] in ratios {
            write!(text, "{:>24}", format!("{}/{}", columns[*of], columns[*over]))?;
        }
        writeln!(text)?;
        for row in rows {
            write!(text, "{:<24}", row.name)?;
            for column in 0..columns.len() {
                write!(text, "{:>12.1}", row.median(column)?)?;
            }
            for columns in ratios {
                let Ratio { median, least, greatest } = row.ratio(*columns)?;
                write!(text, "{:>24}", format!("{median:.2} ({least:.2}..{greatest:.2})"))?;
            }
            writeln!(text)?;
        }
    }
    writeln!(text, "\npool allocations")?;
    writeln!(text, "{:<24}{:>12}{:>12}{:>14}", "", "in all", "any request", "driver's own")?;
    for operation in &allocations.operations {
        let (all, any, own) = (operation.all, operation.any_request, operation.own());
        writeln!(text, "{:<24}{all:>12.3}{any:>12.3}{own:>14.3}", operation.name)?;
    }
    writeln!(text, "\nlive pool blocks\n{:<24}{:>24}{:>14}", "", "framework's", "driver's own")?;
    for pending in &allocations.pending {
        writeln!(text, "{:<24}{:>24.3}{:>14.3}", pending.name, pending.framework, pending.own)?;
    }
    Ok(text)
}

fn csv(sections: &[Section], allocations: &Allocations) -> Result<String> {
    let mut text = "table,measure,path,unit,median,least,greatest\n".to_owned();
    for Section { title, unit, columns, ratios, rows, .. } in sections {
        for row in rows {
            let name = &row.name;
            for (at, column) in columns.iter().enumerate() {
                let median = row.median(at)?;
                let of_rounds = || row.rounds.iter().map(|round| round[at]);
                let (least, greatest) =
                    (of_rounds().fold(f64::INFINITY, f64::min), of_rounds().fold(f64::NEG_INFINITY, f64::max));
                writeln!(text, "\"{title}\",\"{name}\",{column},{unit},{median:.3},{least:.3},{greatest:.3}")?;
            }
            for ratio @ [of, over] in ratios {
                let (of, over) = (columns[*of], columns[*over]);
                let Ratio { median, least, greatest } = row.ratio(*ratio)?;
                writeln!(text, "\"{title}\",\"{name}\",{of}/{over},ratio,{median:.4},{least:.4},{greatest:.4}")?;
            }
        }
    }
    for operation in &allocations.operations {
        let name = &operation.name;
        writeln!(text, "pool allocations,\"{name}\",any request,blocks,{:.4},,", operation.any_request)?;
        writeln!(text, "pool allocations,\"{name}\",driver's own,blocks,{:.4},,", operation.own())?;
    }
    for pending in &allocations.pending {
        let name = pending.name;
        writeln!(text, "live pool blocks,\"{name}\",framework's,blocks,{:.4},,", pending.framework)?;
        writeln!(text, "live pool blocks,\"{name}\",driver's own,blocks,{:.4},,", pending.own)?;
    }
    Ok(text)
}
