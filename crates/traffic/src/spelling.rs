//! Finds what was probably meant by a word that is not known: a key of a filter, a setting, a
//! command.

/// Words longer than this are compared with nothing.
const WORD_BYTES_MAX: usize = 64;

/// The known word that differs least from what was written, if it differs little. Case does not
/// count; a beginning of a known word is near to it.
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if written.is_empty() || written.len() > WORD_BYTES_MAX {
        return None;
    }
    let written = written.to_ascii_lowercase();
    let near = |candidate: &str| {
        let candidate = candidate.to_ascii_lowercase();
        match candidate.starts_with(&written) {
            true => 1,
            false => distance(&written, &candidate),
        }
    };
    known
        .into_iter()
        .map(|candidate| (near(candidate), candidate))
        // A third of the letters may be wrong; more is another word.
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, taken away, changed or swapped with their neighbour (optimal
/// string alignment).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let at = |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX - 1);
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last_letter = None;
    for (count, letter) in from.chars().enumerate() {
        let mut next = vec![count + 1];
        let mut last_other = None;
        for (place, other) in to.iter().copied().enumerate() {
            let changed = at(&row, place) + usize::from(letter != other);
            let mut least = changed
                .min(at(&row, place + 1) + 1)
                .min(at(&next, place) + 1);
            if last_letter == Some(other) && last_other == Some(letter) {
                least = least.min(at(&before, place.saturating_sub(1)) + 1);
            }
            next.push(least);
            last_other = Some(other);
        }
        before = std::mem::replace(&mut row, next);
        last_letter = Some(letter);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["listen", "connect_ports", "status", "state", "host"];
        let check = |written: &str, expected: Option<&str>| {
            assert_eq!(nearest(written, known), expected, "{written}");
        };
        check("listn", Some("listen"));
        check("lsiten", Some("listen"));
        check("stauts", Some("status"));
        check("CONECT_PORTS", Some("connect_ports"));
        check("conn", Some("connect_ports"));
        check("retention", None);
        check("", None);
    }
}
