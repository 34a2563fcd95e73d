//! Placeholders in prefixes: `{env}/app`.

use std::collections::BTreeMap;

/// Where a placeholder's value comes from: the first that has the name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variables<'a> {
    /// The builder's own.
    pub(crate) own: &'a BTreeMap<String, String>,
    /// The coordinator's.
    pub(crate) shared: &'a BTreeMap<String, String>,
    /// What the coordinator knows of itself.
    pub(crate) service: Option<&'a str>,
    pub(crate) namespace: &'a str,
}

impl<'a> Variables<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let given = self.own.get(name).or_else(|| self.shared.get(name));
        match (given, name) {
            (Some(value), _) => Some(value),
            (None, "service") => self.service,
            (None, "namespace") if !self.namespace.is_empty() => {
                Some(self.namespace.trim_end_matches('/'))
            }
            (None, _) => None,
        }
    }
}

/// Fills `template`, or says everything that is wrong with it.
pub(crate) fn fill(template: &str, variables: Variables<'_>) -> Result<String, Vec<String>> {
    let mut filled = String::new();
    let mut faults = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let Some((name, after)) = rest[at..]
            .strip_prefix('{')
            .and_then(|it| it.split_once('}'))
        else {
            faults.push(format!("the braces of `{template}` do not match"));
            return Err(faults);
        };
        match variables.get(name) {
            Some(value) if is_segment(value) => filled.push_str(value),
            Some(value) => faults.push(format!(
                "the value {value:?} of `{{{name}}}` in `{template}` is not one non-empty segment"
            )),
            None => faults.push(format!(
                "`{{{name}}}` in `{template}` has no value: set it with `.var({name:?}, …)`, in \
                 `Options::vars`, or as COORD_VAR_{}",
                name.to_ascii_uppercase()
            )),
        }
        rest = after;
    }
    filled.push_str(rest);
    if faults.is_empty() {
        Ok(filled)
    } else {
        Err(faults)
    }
}

fn is_segment(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '{', '}']) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn the_builder_wins_over_the_options_and_those_over_the_service() {
        let (own, shared) = (
            map(&[("env", "own")]),
            map(&[("env", "shared"), ("zone", "z")]),
        );
        let variables = Variables {
            own: &own,
            shared: &shared,
            service: Some("svc"),
            namespace: "prod/",
        };
        assert_eq!(
            fill("/{namespace}/{env}/{zone}-{service}", variables).as_deref(),
            Ok("/prod/own/z-svc")
        );
        let named = map(&[("service", "other")]);
        let variables = Variables {
            shared: &named,
            ..variables
        };
        assert_eq!(fill("{service}", variables).as_deref(), Ok("other"));
    }

    #[test]
    fn all_faults_at_once() {
        let (own, shared) = (map(&[("a", ""), ("b", "x/y")]), map(&[]));
        let variables = Variables {
            own: &own,
            shared: &shared,
            service: None,
            namespace: "",
        };
        let faults = fill("{a}/{b}/{service}/{namespace}", variables).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:#?}");
        for (fault, name) in faults
            .iter()
            .zip(["{a}", "{b}", "{service}", "{namespace}"])
        {
            assert!(fault.contains(name), "{fault}");
        }
        for bad in ["{a", "a}", "{", "}{"] {
            let variables = Variables {
                own: &map(&[("a", "1")]),
                ..variables
            };
            assert!(fill(bad, variables).is_err(), "{bad}");
        }
    }
}
