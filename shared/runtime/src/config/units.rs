//! Types for values with a unit, and for values that must not be seen.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time as people write it: `"15s"`, `"250ms"`, `"1m30s"`, `"7d"`. A number without a unit is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

/// Milliseconds in each unit of a duration, longest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl HumanDuration {
    /// That many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// That many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The plain duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in TIMES {
            if left >= millis {
                write!(f, "{}{unit}", left / millis)?;
                left %= millis;
            }
        }
        Ok(())
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError { text: text.to_owned(), wanted: "a duration such as 250ms, 15s, 2m, 1h30m or 7d" };
        let mut rest = text.trim();
        let (mut total, mut last) = (0u64, u64::MAX);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let (_, millis) = TIMES.into_iter().find(|(name, _)| *name == unit).ok_or_else(fault)?;
            if millis >= last {
                return Err(fault()); // "5s2m" and "1s1s" are slips, not durations
            }
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)).ok_or_else(fault)?;
            total = total.checked_add(part).ok_or_else(fault)?;
            (last, rest) = (millis, tail);
        }
        if last == u64::MAX { Err(fault()) } else { Ok(Self::from_millis(total)) }
    }
}

/// A number of bytes as people write it: `"512B"`, `"64KiB"`, `"1MiB"`, `"2GiB"`, also `"1kB"`, `"1MB"`, `"1GB"` (powers of
/// 1000). A number without a unit is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Bytes in each unit of a size; the first that divides a size prints it.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// That many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many times 1024 bytes.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// That many times 1024² bytes.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// That many times 1024³ bytes.
    #[must_use]
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, as large as the platform can count.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*bytes);
        let (unit, bytes) = SIZES.into_iter().find(fits).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fault = || UnitError { text: text.to_owned(), wanted: "a size such as 512B, 64KiB, 1MiB or 2GiB" };
        let trimmed = text.trim();
        let (number, unit) = trimmed.split_at(trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?);
        let unit = unit.trim_start();
        let (_, bytes) = SIZES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(fault)?;
        number.parse::<u64>().ok().and_then(|n| n.checked_mul(bytes)).map(Self).ok_or_else(fault)
    }
}

/// A text that is no value of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct UnitError {
    text: String,
    wanted: &'static str,
}

/// Serde by way of `Display` and `FromStr`; a number is refused with the same words as a bad text.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text).and_then(|text| text.parse().map_err(de::Error::custom))
            }
        }
    };
}
serde_as_text!(HumanDuration);
serde_as_text!(ByteSize);

/// A value that is never shown: not in `Debug`, not in logs, not in `--print-config`. Its default is empty, and must stay
/// so: the defaults of a configuration pass through its serialised form, in which a secret is a mask.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "********";

impl Secret {
    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether none was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret()" } else { "Secret(********)" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { MASK })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An unquoted number is taken as it stands: serde's complaint would print it.
        deserializer.deserialize_any(Text).map(Self)
    }
}

/// Takes a text or a number, as text.
struct Text;

impl de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

/// For `#[serde(deserialize_with = "herald_runtime::config::comma_separated")]`: a list, or one text with its items
/// separated by commas, as environment variables have it. Blank items are left out.
///
/// # Errors
/// If an item is no `T`.
pub fn comma_separated<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    struct Items;

    impl<'de> de::Visitor<'de> for Items {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts, or one text with commas")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(text.split(',').map(|item| item.trim().to_owned()).collect())
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = items.next_element::<String>()? {
                texts.push(text.trim().to_owned());
            }
            Ok(texts)
        }
    }

    let items = deserializer.deserialize_any(Items)?;
    items.iter().filter(|item| !item.is_empty()).map(|item| item.parse().map_err(de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_written_with_their_units() {
        for (text, millis, written) in [
            ("15s", 15_000, "15s"),
            ("250ms", 250, "250ms"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            (" 7d ", 604_800_000, "7d"),
            ("0s", 0, "0s"),
            ("1m5ms", 60_005, "1m5ms"),
        ] {
            let duration: HumanDuration = text.parse().expect(text);
            assert_eq!(duration, HumanDuration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), written, "{text}");
        }
        for text in ["", "15", "s", "15 s", "-1s", "1.5s", "5s2m", "1s1s", "1y", "99999999999999999999s", "1h-3m"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_with_their_units() {
        for (text, bytes, written) in [
            ("1MiB", 1 << 20, "1MiB"),
            ("64 KiB", 64 << 10, "64KiB"),
            ("2gib", 2 << 30, "2GiB"),
            ("1MB", 1_000_000, "1MB"),
            ("3kB", 3_000, "3kB"),
            ("0B", 0, "0B"),
            ("1537B", 1_537, "1537B"),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!(size.as_u64(), bytes, "{text}");
            assert_eq!(size.to_string(), written, "{text}");
        }
        for text in ["", "1024", "MiB", "1.5MiB", "-1B", "1 M", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        assert_eq!(ByteSize::from_kib(1024), ByteSize::from_mib(1));
        assert_eq!(ByteSize::from_mib(1024), ByteSize::from_gib(1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0..u64::MAX / 2, bytes: u64) {
            let duration = HumanDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse::<HumanDuration>(), Ok(duration));
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn no_text_breaks_the_readers(text in "\\PC*") {
            let _ = text.parse::<HumanDuration>();
            let _ = text.parse::<ByteSize>();
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_an_example() {
        let error = serde_json::from_str::<HumanDuration>("15").expect_err("no unit").to_string();
        assert_eq!(error, "`15` is not a duration such as 250ms, 15s, 2m, 1h30m or 7d");
        let error = serde_json::from_str::<ByteSize>("1024").expect_err("no unit").to_string();
        assert_eq!(error, "`1024` is not a size such as 512B, 64KiB, 1MiB or 2GiB");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").expect("a text");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(********)");
        assert_eq!(serde_json::to_string(&secret).expect("json"), "\"********\"");
        assert_eq!(serde_json::from_str::<Secret>("1234").expect("a number").expose(), "1234");
        let error = serde_json::from_str::<Secret>("[\"hunter2\"]").expect_err("a list").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn lists_come_as_lists_or_with_commas() {
        #[derive(Deserialize)]
        struct Holder {
            #[serde(deserialize_with = "comma_separated")]
            ports: Vec<u16>,
        }
        for (json, ports) in
            [(r#"{"ports":["1","2"]}"#, vec![1, 2]), (r#"{"ports":"1, 2,"}"#, vec![1, 2]), (r#"{"ports":""}"#, vec![])]
        {
            assert_eq!(serde_json::from_str::<Holder>(json).expect(json).ports, ports);
        }
        assert!(serde_json::from_str::<Holder>(r#"{"ports":"1,x"}"#).is_err());
    }
}
