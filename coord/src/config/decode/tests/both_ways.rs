//! What is written is read, and no text ends in a panic.

use super::*;
use crate::config::encode::name;

/// What `set` writes is what a field reads.
fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Send + Sync + 'static,
{
    let stored = encode_some(value).map_err(TestCaseError::fail)?;
    // A `None` is no key at all.
    let keys: Vec<_> = stored.iter().map(|stored| ("v", stored)).collect();
    let back = decode::<One<T>>(&prefix(), &map(&keys), None).value;
    let back = back.map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
    let text = stored.as_deref().map(String::from_utf8_lossy);
    prop_assert_eq!(&back.0, value, "as {:?}", text);
    Ok(())
}

/// The same for `value` alone, in a list, as an entry, as an option and in an enum.
fn round_trips<T>(value: T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static,
{
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held<T> {
        it: T,
        more: Option<T>,
    }
    round_trip(&value)?;
    round_trip(&Some(value.clone()))?;
    round_trip(&vec![value.clone(), value.clone()])?;
    round_trip(&BTreeMap::from([("a,b\n".to_owned(), value.clone())]))?;
    round_trip(&Err::<u8, _>(value.clone()))?;
    round_trip(&Held {
        it: value.clone(),
        more: None,
    })?;
    round_trip(&Held {
        it: value.clone(),
        more: Some(value),
    })
}

#[test]
fn what_no_text_stands_for_is_refused() {
    for nan in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(encode(&nan).is_err());
        assert!(encode(&vec![nan]).is_err());
        assert!(encode(&Some(BTreeMap::from([("a", nan as f32)]))).is_err());
        assert!(encode(&Err::<u8, _>(nan)).is_err());
    }
    // Two entries would be read as one.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    enum Same {
        #[serde(rename = "a")]
        A,
        #[serde(rename = "a")]
        B,
    }
    assert!(encode(&BTreeMap::from([(Same::A, 1), (Same::B, 2)])).is_err());
    assert!(encode(&BTreeMap::from([(None::<u8>, 1)])).is_err());
}

#[test]
fn what_is_set_is_plain() {
    fn text<T: Serialize + ?Sized>(value: &T) -> String {
        String::from_utf8(encode(value).expect("a text")).expect("UTF-8")
    }
    assert_eq!(text("dark"), "dark");
    assert_eq!(text(&Duration::from_secs(90)), "1m 30s");
    assert_eq!(text(&Mode::VerySlow), "very_slow");
    assert_eq!(text(&Some(true)), "true");
    assert_eq!(text(&vec!["a,b"]), r#"["a,b"]"#);
    assert_eq!(text(&vec![0.1_f32]), "[0.1]");
    assert_eq!(text(&Raw(vec![b'a', b'\n'])), "a\n");
    assert!(encode(&None::<u8>).is_err());
}

proptest! {
    #[test]
    fn strings_round_trip(value in "(?s).{0,20}[\r\n]{0,3}") {
        round_trip(&value)?;
        round_trip(&Name(value))?;
    }

    /// All that are one word or one number, wherever they stand.
    #[test]
    fn scalars_round_trip(
        a: (u8, u16, u32, u64, u128, usize), b: (i8, i16, i32, i64, i128, isize), c: bool, d: char,
        e: f32, f in proptest::num::f64::NORMAL, ip: IpAddr, nonzero in 1..=u8::MAX,
        path in "[a-z/. ]{1,9}", text in "(?s).{0,20}[\r\n]{0,3}", bytes: Vec<u8>,
    ) {
        round_trips(a.0)?;
        round_trips(a.1)?;
        round_trips(a.2)?;
        round_trips(a.3)?;
        round_trips(a.4)?;
        round_trips(a.5)?;
        round_trips(b.0)?;
        round_trips(b.1)?;
        round_trips(b.2)?;
        round_trips(b.3)?;
        round_trips(b.4)?;
        round_trips(b.5)?;
        round_trips(c)?;
        round_trips(d)?;
        if e.is_finite() {
            round_trips(e)?;
        }
        round_trips(f)?;
        round_trips(ip)?;
        round_trips(std::num::NonZero::new(nonzero).expect("not zero"))?;
        round_trips(PathBuf::from(path))?;
        round_trips([Mode::Fast, Mode::VerySlow][usize::from(c)].clone())?;
        round_trips(text)?;
        round_trips(Raw(bytes))?;
    }

    /// The names of entries, in a document and as segments of keys.
    #[test]
    fn names_of_entries_round_trip(a: u128, b: f32, c: bool, d in "(?s).{0,4}\n?", secs: u32, e: (u8, i8)) {
        round_trip(&HashMap::from([(a, 1)]))?;
        round_trip(&HashMap::from([(c, 1)]))?;
        round_trip(&HashMap::from([(d.clone(), 1)]))?;
        round_trip(&HashMap::from([(e, 1)]))?;
        round_trip(&HashMap::from([(Duration::from_secs(secs.into()), 1)]))?;
        prop_assert_eq!(name(&d), Ok(d));
        prop_assert_eq!(name(&b).is_ok(), b.is_finite());
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
