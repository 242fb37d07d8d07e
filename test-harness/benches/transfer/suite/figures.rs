//! What was measured, and what it comes to.

use anyhow::{Result, anyhow};

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Better {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher is better",
            Self::Lower => "lower is better",
        }
    }
}

/// A table: several measures of the same paths.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The paths.
    pub(crate) columns: Vec<&'static str>,
    /// The columns to be compared: the first over the second.
    pub(crate) ratios: Vec<[usize; 2]>,
    pub(crate) rows: Vec<Row>,
}

/// A figure of each path, in each round.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Vec<f64>>,
}

/// The ratio of two figures that were measured right after each other.
pub(crate) struct Ratio {
    /// Of all rounds.
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Row {
    /// The median of the rounds of a column.
    pub(crate) fn median(&self, column: usize) -> Result<f64> {
        at_percentile(&self.rounds.iter().map(|round| round[column]).collect::<Vec<_>>(), 50)
    }

    pub(crate) fn ratio(&self, [of, over]: [usize; 2]) -> Result<Ratio> {
        let ratios: Vec<_> = self.rounds.iter().map(|round| round[of] / round[over]).collect();
        Ok(Ratio {
            median: at_percentile(&ratios, 50)?,
            least: at_percentile(&ratios, 0)?,
            greatest: at_percentile(&ratios, 100)?,
        })
    }
}

/// The sample that so many hundredths of all do not exceed.
pub(crate) fn at_percentile(samples: &[f64], percentile: usize) -> Result<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percentile).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().ok_or_else(|| anyhow!("nothing was measured"))
}

/// A size for people.
pub(crate) fn size_name(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x0010_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
