//! How far a worker is, as it says so in a line.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

/// What has been done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Inputs that were tried.
    pub(crate) runs: u64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// Edges of the driver that were taken.
    pub(crate) taken: usize,
    /// Edges that there are.
    pub(crate) edges: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, seconds, taken, edges } = self;
        let rate = self.rate();
        write!(formatter, "{runs} inputs in {seconds:.1} s, {rate:.0} a second, {taken} of {edges} edges")
    }
}

impl FromStr for Figures {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [runs, "inputs", "in", seconds, "s,", _, "a", "second,", taken, "of", edges, "edges"] = words[..] else {
            return Err(());
        };
        Ok(Self {
            runs: runs.parse().map_err(drop)?,
            seconds: seconds.parse().map_err(drop)?,
            taken: taken.parse().map_err(drop)?,
            edges: edges.parse().map_err(drop)?,
        })
    }
}

impl Figures {
    fn rate(&self) -> f64 {
        // Fewer than 2^53.
        #[allow(clippy::cast_precision_loss)]
        let runs = self.runs as f64;
        if self.seconds > 0.0 { runs / self.seconds } else { 0.0 }
    }
}

/// One worker after the other, which begins with what the first has found.
impl AddAssign for Figures {
    fn add_assign(&mut self, next: Self) {
        self.runs += next.runs;
        self.seconds += next.seconds;
        self.taken = self.taken.max(next.taken);
        self.edges = next.edges;
    }
}

#[test]
fn a_line_is_read_as_it_was_written() {
    let figures = Figures { runs: 1200, seconds: 2.5, taken: 7, edges: 4067 };
    assert_eq!(figures.to_string(), "1200 inputs in 2.5 s, 480 a second, 7 of 4067 edges");
    assert_eq!(figures.to_string().parse(), Ok(figures));
    assert_eq!("an error".parse::<Figures>(), Err(()));
}
