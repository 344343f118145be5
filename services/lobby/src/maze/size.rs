//! The size of a labyrinth, as clients write it: a number, or the text of an input field.

use thiserror::Error;

/// The smallest labyrinth, in cells of a side.
pub const LEAST: u8 = 4;
/// The largest.
pub const MOST: u8 = 10;

/// Why something is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SizeError {
    /// It is no whole number, and no text of one.
    #[error("Size must be a whole number")]
    NotAnInteger,
    /// It is a whole number, and no labyrinth has that size.
    #[error("Size must be between {LEAST} and {MOST}")]
    OutOfRange,
}

/// Reads a size from the JSON text of a field: `7`, `7.0`, `"7"`, `" +07.0 "`. From the text, as numbers of any length are numbers.
///
/// # Errors
/// Where it is none.
pub fn read(json: &str) -> Result<u8, SizeError> {
    let json = json.trim_ascii();
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json).map_err(|_| SizeError::NotAnInteger)?;
        return written(text.trim());
    }
    if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(SizeError::NotAnInteger);
    }
    // Whole numbers up to 10 are floats without loss, and what is larger than all floats is infinite.
    let number: f64 = json.parse().map_err(|_| SizeError::NotAnInteger)?;
    if number.is_finite() && number.fract() != 0.0 {
        return Err(SizeError::NotAnInteger);
    }
    (LEAST..=MOST).find(|size| f64::from(*size) == number).ok_or(SizeError::OutOfRange)
}

/// A whole number as text: a sign, digits, and zeros behind a point.
fn written(text: &str) -> Result<u8, SizeError> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, zeros) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !whole || zeros.is_empty() || zeros.bytes().any(|zero| zero != b'0') {
        return Err(SizeError::NotAnInteger);
    }
    let size = digits.trim_start_matches('0').parse().ok();
    size.filter(|size| !negative && (LEAST..=MOST).contains(size)).ok_or(SizeError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::{
        SizeError::{NotAnInteger, OutOfRange},
        *,
    };

    #[test]
    fn numbers_and_texts_of_numbers_are_sizes() {
        for (json, size) in [
            ("4", 4),
            ("10", 10),
            ("7.0", 7),
            ("0.7e1", 7),
            ("70E-1", 7),
            (" 7 ", 7),
            (r#""7""#, 7),
            (r#"" 7 ""#, 7),
            (r#""07""#, 7),
            (r#""+7""#, 7),
            (r#""7.0""#, 7),
            (r#""7.000""#, 7),
            (r#"" \t+0010.0 ""#, 10),
            (r#""\u0037""#, 7),
        ] {
            assert_eq!(read(json), Ok(size), "{json}");
        }
    }

    #[test]
    fn what_is_no_whole_number_is_told_from_what_is_too_small_or_too_large() {
        let huge = format!("1{}", "0".repeat(400));
        let huge_text = format!("\"{huge}\"");
        for json in [
            "3", "11", "0", "-0", "-1", "-7", "-7.0", "1e30", "1e400", "-1e400", r#""11""#, r#""3""#, r#""-7""#,
            r#""0""#,
        ] {
            assert_eq!(read(json), Err(OutOfRange), "{json}");
        }
        assert_eq!((read(&huge), read(&huge_text)), (Err(OutOfRange), Err(OutOfRange)));
        for json in [
            "7.5",
            "null",
            "true",
            "false",
            "[]",
            "[7]",
            "{}",
            "",
            "NaN",
            "inf",
            "Infinity",
            r#""""#,
            r#"" ""#,
            r#""x""#,
            r#""7.5""#,
            r#""7.""#,
            r#"".0""#,
            r#""+""#,
            r#""+-7""#,
            r#""7 7""#,
            r#""7e0""#,
            r#""0x7""#,
            r#""7_0""#,
            r#""٧""#,
            r#""7.0.0""#,
            r#""inf""#,
            r#""\ud800""#,
        ] {
            assert_eq!(read(json), Err(NotAnInteger), "{json}");
        }
        assert_eq!(OutOfRange.to_string(), "Size must be between 4 and 10");
    }
}
