//! What is written is read, and no text ends in a panic.

use super::*;

/// What `set` writes is what a field reads.
fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Send + Sync + 'static,
{
    let Some(text) = encode_some(value).map_err(TestCaseError::fail)? else {
        // No key at all.
        let back = read::<T>(&[]).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&back, value);
        return Ok(());
    };
    let back = one::<T>(&text).map_err(TestCaseError::fail)?;
    prop_assert_eq!(&back, value, "as {:?}", text);
    Ok(())
}

#[test]
fn what_is_set_is_plain() {
    assert_eq!(encode("dark").as_deref(), Ok("dark"));
    assert_eq!(encode(&Duration::from_secs(90)).as_deref(), Ok("1m 30s"));
    assert_eq!(encode(&Mode::VerySlow).as_deref(), Ok("very_slow"));
    assert_eq!(encode(&Some(true)).as_deref(), Ok("true"));
    assert_eq!(encode(&vec!["a,b"]).as_deref(), Ok(r#"["a,b"]"#));
    assert!(encode(&None::<u8>).is_err() && encode(&f64::NAN).is_err());
}

proptest! {
    #[test]
    fn strings_round_trip(value in "(?s).{0,20}[\r\n]{0,3}") {
        round_trip(&value)?;
        round_trip(&Name(value))?;
    }

    #[test]
    fn scalars_round_trip(a: u64, b: i128, c: bool, d: char, e: f32, f in proptest::num::f64::NORMAL) {
        round_trip(&a)?;
        round_trip(&b)?;
        round_trip(&c)?;
        round_trip(&d)?;
        round_trip(&f)?;
        if e.is_finite() {
            round_trip(&e)?;
        }
    }

    /// All that are one word or one number.
    #[test]
    fn words_round_trip(
        a: (u8, u16, u32, u64, u128, usize), b: (i8, i16, i32, i64, i128, isize), c: bool,
        ip: IpAddr, nonzero in 1..=u8::MAX, path in "[a-z/. ]{1,9}",
    ) {
        round_trip(&a.0)?;
        round_trip(&a.1)?;
        round_trip(&a.2)?;
        round_trip(&a.3)?;
        round_trip(&a.4)?;
        round_trip(&a.5)?;
        round_trip(&b.0)?;
        round_trip(&b.1)?;
        round_trip(&b.2)?;
        round_trip(&b.3)?;
        round_trip(&b.4)?;
        round_trip(&b.5)?;
        round_trip(&c)?;
        round_trip(&Some(c))?;
        round_trip(&ip)?;
        round_trip(&NonZeroU8::new(nonzero))?;
        round_trip(&PathBuf::from(path))?;
        round_trip(&[Mode::Fast, Mode::VerySlow][usize::from(c)])?;
    }

    /// Lists, sets, maps and enums of them, with what a text must not be confused with.
    #[test]
    fn collections_round_trip(
        texts in proptest::collection::vec("(?s)[a,\\[\\]{}\"\n ]{0,4}", 0..4),
        numbers: BTreeSet<i16>, millis in proptest::collection::vec(0..100_000u64, 0..4), rate: u8,
    ) {
        let spans: Vec<_> = millis.into_iter().map(Duration::from_millis).collect();
        round_trip(&numbers)?;
        round_trip(&numbers.iter().copied().collect::<HashSet<_>>())?;
        round_trip(&texts)?;
        round_trip(&vec![texts.clone(), vec![]])?;
        round_trip(&Some(texts.clone()))?;
        round_trip(&spans)?;
        round_trip(&spans.first().copied())?;
        let by_text: HashMap<_, _> = texts.iter().cloned().zip(spans).collect();
        round_trip(&by_text)?;
        for text in texts {
            round_trip(&Mode::Only(text.clone()))?;
            round_trip(&(rate, text))?;
        }
        round_trip(&Mode::Pair(rate, 0))?;
    }

    /// A value of any type: whatever is no text that looks like another one.
    #[test]
    fn json_round_trips(number: i64, on: bool, text in "[a-z]{1,5} ", list: Vec<u8>) {
        use serde_json::{Value, json};
        prop_assume!(serde_json::from_str::<Value>(&text).is_err());
        for value in [json!(null), json!(number), json!(on), json!(text), json!(list), json!({"a": list, "b": text})] {
            round_trip(&value)?;
        }
    }

    #[test]
    fn durations_round_trip(secs: u64, nanos in 0u32..1_000_000_000) {
        round_trip(&Duration::new(secs, nanos))?;
    }

    #[test]
    fn structures_round_trip(x: i32, y: Option<i32>, list: Vec<String>, rate: u8) {
        round_trip(&Point { x, y })?;
        round_trip(&vec![Point { x, y }])?;
        round_trip(&BTreeMap::from([(rate, list.clone())]))?;
        round_trip(&list)?;
        round_trip(&Mode::Custom { rate })?;
        round_trip(&vec![Duration::new(7, u32::from(rate))])?;
    }

    /// Whatever stands in etcd: an answer, and no panic.
    #[test]
    fn no_value_panics(keys in proptest::collection::vec(("[a-z/0-9]{0,6}", proptest::collection::vec(any::<u8>(), 0..12)), 0..8)) {
        let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut map = map(&keys);
        for (index, field) in ["db", "db/host", "limit", "tags", "log/level", "cache", "timeout"].iter().enumerate() {
            if let Some((_, value)) = keys.get(index) {
                map.extend(self::map(&[(field, value)]));
            }
        }
        let decoded = decode::<App>(&prefix(), &map, None);
        prop_assert!(decoded.value.is_ok() || !decoded.value.unwrap_err().is_empty());
    }
}
