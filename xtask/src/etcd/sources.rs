//! The machine's own apt sources, read in both of apt's styles.
//!
//! Only as much as is needed to ask the same mirror for another suite: the address, the components
//! and the keyring that the machine trusts for it. Any other option of an entry is left behind;
//! above all `trusted=yes`.

use std::{fs, path::Path};

/// One binary-package source of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) uris: String,
    pub(super) suites: Vec<String>,
    pub(super) components: String,
    /// A path, a fingerprint, or a key block with its continuation lines; none: apt's own keyrings.
    pub(super) signed_by: Option<String>,
}

impl Source {
    /// The deb822 stanza that asks the same mirror for `suite`.
    pub(super) fn stanza(&self, suite: &str) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: {}\nTargets: Packages\n",
            self.uris, self.components
        );
        if let Some(keys) = &self.signed_by {
            text += &format!("Signed-By: {keys}\n");
        }
        text
    }

    /// Whether this is a source of the distribution itself: one that has the machine's release, or
    /// a name by which distributions call a release, with the component `main`.
    fn is_distribution(&self, codename: Option<&str>) -> bool {
        const CLASSES: [&str; 5] = ["stable", "oldstable", "testing", "unstable", "sid"];
        let known =
            |suite: &String| Some(suite.as_str()) == codename || CLASSES.contains(&suite.as_str());
        self.suites.iter().any(known) && self.components.split_whitespace().any(|c| c == "main")
    }
}

/// The distribution's own sources in `etc` (that is `/etc/apt`), in the order in which apt reads.
pub(super) fn distribution(etc: &Path, codename: Option<&str>) -> Vec<Source> {
    let mut files = vec![etc.join("sources.list")];
    let parts = fs::read_dir(etc.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten();
    let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);

    let mut found = Vec::new();
    for file in files {
        let parse: fn(&str) -> Vec<Source> = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        found.extend(
            fs::read_to_string(&file)
                .map(|text| parse(&text))
                .unwrap_or_default(),
        );
    }
    found.retain(|source| source.is_distribution(codename));
    found
}

/// The one-line style: `deb [signed-by=/key arch=amd64] http://mirror suite component…`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb")
        .filter(|rest| rest.starts_with([' ', '\t', '[']))?;
    let (options, rest) = match rest.trim_start().strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uris = words.next()?.to_owned();
    let suites = vec![words.next()?.to_owned()];
    let components = words.collect::<Vec<_>>().join(" ");
    let signed_by = options.split_whitespace().find_map(|option| {
        let (name, value) = option.split_once('=')?;
        name.eq_ignore_ascii_case("signed-by")
            .then(|| value.to_owned())
    });
    Some(Source {
        uris,
        suites,
        components,
        signed_by,
    })
}

/// The deb822 style: stanzas of `Field: value`, continued by lines that start with a blank.
fn deb822(text: &str) -> Vec<Source> {
    let mut stanzas: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for line in text.lines() {
        let fields = stanzas
            .last_mut()
            .expect("one stanza is there from the start");
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else if line.starts_with('#') {
            // A comment may stand inside a stanza and does not end it.
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                *value = format!("{value}\n{line}");
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    stanzas
        .iter()
        .filter_map(|fields| deb822_entry(fields))
        .collect()
}

fn deb822_entry(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.trim())
    };
    let words = |name: &str| field(name).into_iter().flat_map(str::split_whitespace);
    let off = field("enabled").is_some_and(|v| ["no", "false", "0"].contains(&v));
    if off || !words("types").any(|kind| kind == "deb") {
        return None;
    }
    Some(Source {
        uris: field("uris")?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        suites: words("suites").map(str::to_owned).collect(),
        components: words("components").collect::<Vec<_>>().join(" "),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb deb-src
# another mirror, for a while
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://other.example/tool
Suites: nodistro
Components: main
Trusted: yes

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://inline.example/debian
Suites: stable
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
";

    #[test]
    fn deb822_keeps_only_the_distribution() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("sources.list.d")).expect("a folder");
        fs::write(dir.path().join("sources.list.d/debian.sources"), DEB822).expect("written");
        fs::write(dir.path().join("sources.list.d/debian.sources.bak"), DEB822).expect("written");

        let found = distribution(dir.path(), Some("bookworm"));
        let uris: Vec<_> = found.iter().map(|source| source.uris.as_str()).collect();
        assert_eq!(
            uris,
            [
                "http://mirror.example/debian",
                "http://inline.example/debian"
            ]
        );
        assert_eq!(found[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            found[0].stanza("forky"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: forky\n\
             Components: main contrib\nTargets: Packages\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        assert!(
            found[1]
                .stanza("forky")
                .ends_with("-----END PGP PUBLIC KEY BLOCK-----\n")
        );
    }

    #[test]
    fn one_line_keeps_the_keyring_and_drops_trust() {
        let text = "\
# deb http://commented.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # ours
deb [ arch=amd64 signed-by=/k.gpg trusted=yes ] http://mirror.example/debian stable main
deb [trusted=yes] file:/srv/packages ./
";
        let all = one_line(text);
        let distribution: Vec<_> = all
            .iter()
            .filter(|source| source.is_distribution(Some("bookworm")))
            .collect();
        assert_eq!(all.len(), 3);
        assert_eq!(distribution.len(), 2);
        assert_eq!(distribution[0].components, "main contrib");
        assert_eq!(distribution[0].signed_by, None);
        assert_eq!(distribution[1].signed_by.as_deref(), Some("/k.gpg"));
        assert!(
            !distribution[1]
                .stanza("forky")
                .to_lowercase()
                .contains("trusted")
        );
    }
}
