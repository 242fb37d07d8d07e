//! Pictures made of text.

use std::time::Duration;

/// Cells of a bar.
pub(super) const WIDTH: usize = 32;

/// A bar of `value` where one of `most` is [`WIDTH`] long, filled up with spaces. Something is never nothing.
pub(super) fn bar(value: f64, most: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let cells = (WIDTH * 8) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the number of eighths")]
    let eighths = if share > 0.0 { ((share * cells).round() as usize).max(1) } else { 0 };
    let drawn = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    format!("{drawn:<WIDTH$}")
}

/// A time in the unit that fits: `12.3 us`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        0.001..1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.1} us", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar(1.0, 1.0), "█".repeat(WIDTH));
        assert_eq!(bar(2.0, 1.0), "█".repeat(WIDTH));
        assert_eq!(bar(0.0, 1.0), " ".repeat(WIDTH));
        assert_eq!(bar(1.0, 0.0), " ".repeat(WIDTH));
        assert_eq!(bar(0.5, 1.0).trim_end(), "█".repeat(WIDTH / 2));
        assert_eq!(bar(1e-9, 1.0).trim_end(), "▏");
        assert_eq!(bar(1.5, 32.0).trim_end(), "█▌");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (nanoseconds, shown) in
            [(0, "0.0 us"), (12_345, "12.3 us"), (1_500_000, "1.50 ms"), (2_000_000_000, "2.00 s")]
        {
            assert_eq!(time(Duration::from_nanos(nanoseconds)), shown);
        }
    }
}
