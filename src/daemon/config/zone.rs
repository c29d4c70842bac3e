//! Which time zone somebody meant who wrote one that there is not.

use chrono_tz::{TZ_VARIANTS, Tz};

/// Cities, countries and abbreviations that are no zone of the IANA list, as people write them, and their zone.
const MEANT: &[(&str, &str)] = &[
    ("augsburg", "Europe/Berlin"),
    ("bern", "Europe/Zurich"),
    ("basel", "Europe/Zurich"),
    ("bonn", "Europe/Berlin"),
    ("bremen", "Europe/Berlin"),
    ("cest", "Europe/Berlin"),
    ("cologne", "Europe/Berlin"),
    ("deutschland", "Europe/Berlin"),
    ("dortmund", "Europe/Berlin"),
    ("dresden", "Europe/Berlin"),
    ("duesseldorf", "Europe/Berlin"),
    ("essen", "Europe/Berlin"),
    ("frankfurt", "Europe/Berlin"),
    ("geneva", "Europe/Zurich"),
    ("genf", "Europe/Zurich"),
    ("germany", "Europe/Berlin"),
    ("graz", "Europe/Vienna"),
    ("hamburg", "Europe/Berlin"),
    ("hannover", "Europe/Berlin"),
    ("innsbruck", "Europe/Vienna"),
    ("koeln", "Europe/Berlin"),
    ("leipzig", "Europe/Berlin"),
    ("linz", "Europe/Vienna"),
    ("mesz", "Europe/Berlin"),
    ("mez", "Europe/Berlin"),
    ("milano", "Europe/Rome"),
    ("muenchen", "Europe/Berlin"),
    ("munich", "Europe/Berlin"),
    ("nuernberg", "Europe/Berlin"),
    ("nuremberg", "Europe/Berlin"),
    ("oesterreich", "Europe/Vienna"),
    ("austria", "Europe/Vienna"),
    ("praha", "Europe/Prague"),
    ("roma", "Europe/Rome"),
    ("rom", "Europe/Rome"),
    ("salzburg", "Europe/Vienna"),
    ("schweiz", "Europe/Zurich"),
    ("stuttgart", "Europe/Berlin"),
    ("switzerland", "Europe/Zurich"),
    ("warschau", "Europe/Warsaw"),
    ("wien", "Europe/Vienna"),
    ("zuerich", "Europe/Zurich"),
];

/// How a zone is found where nothing is near: said to somebody whose city is no zone.
const FIND: &str = "not every city is a zone: `timedatectl list-timezones` lists them all; one zone holds for a country, as \
                    Europe/Berlin for Germany, Europe/Vienna for Austria, Europe/Zurich for Switzerland";

/// How to fix a zone that there is not: the one that was meant, where that is near, or how to find one.
pub(super) fn help(written: &str) -> String {
    match meant(written) {
        Some(zone) => format!("did you mean `{zone}`? write a name of the IANA list, as in \"Europe/Berlin\""),
        None => format!("write a name of the IANA list; {FIND}"),
    }
}

/// Cities are compared as a whole, and those of the region that was written go first: Athens is not like München.
fn meant(written: &str) -> Option<&'static str> {
    let written = folded(written.get(..64).unwrap_or(written));
    let (region, city) = written.rsplit_once('/').unwrap_or(("", &written));
    if let Some((_, zone)) = MEANT.iter().find(|(name, _)| *name == city) {
        return Some(zone);
    }
    let names = TZ_VARIANTS.iter().map(|zone: &Tz| zone.name());
    let by_likeness = names.filter_map(|name| {
        let own = folded(name);
        let (own_region, own_city) = own.rsplit_once('/').unwrap_or(("", &own));
        let distance = strsim::damerau_levenshtein(city, own_city);
        let foreign = !region.is_empty() && strsim::damerau_levenshtein(region, own_region) > 1;
        let is_near = distance <= city.chars().count().min(own_city.chars().count()) / 4;
        (is_near && !city.is_empty()).then_some((foreign, distance, own_region.is_empty(), name))
    });
    by_likeness.min().map(|(.., name)| name)
}

/// In lower case without accents, with one kind of blank.
fn folded(text: &str) -> String {
    let mut folded = String::new();
    for letter in text.trim().chars().flat_map(char::to_lowercase) {
        match letter {
            'ä' => folded.push_str("ae"),
            'ö' => folded.push_str("oe"),
            'ü' => folded.push_str("ue"),
            'ß' => folded.push_str("ss"),
            'á' | 'à' | 'â' | 'ã' | 'å' => folded.push('a'),
            'é' | 'è' | 'ê' | 'ë' => folded.push('e'),
            'í' | 'ì' | 'î' | 'ï' => folded.push('i'),
            'ó' | 'ò' | 'ô' | 'õ' | 'ø' => folded.push('o'),
            'ú' | 'ù' | 'û' => folded.push('u'),
            'ç' => folded.push('c'),
            'ñ' => folded.push('n'),
            ' ' | '-' => folded.push('_'),
            '\\' => folded.push('/'),
            letter => folded.push(letter),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_city_that_was_meant_is_found_and_no_other() {
        for (written, zone) in [
            ("Europe/Berlim", Some("Europe/Berlin")),
            ("europe/berlin", Some("Europe/Berlin")),
            ("Berlin", Some("Europe/Berlin")),
            ("Europa/Berlin", Some("Europe/Berlin")),
            ("Europe\\Berlin", Some("Europe/Berlin")),
            ("Europe/München", Some("Europe/Berlin")),
            ("Europe/Muenchen", Some("Europe/Berlin")),
            ("Europe/Wien", Some("Europe/Vienna")),
            ("Europe/Zürich", Some("Europe/Zurich")),
            ("Germany", Some("Europe/Berlin")),
            ("MEZ", Some("Europe/Berlin")),
            ("America/New York", Some("America/New_York")),
            ("America/Sao_Paolo", Some("America/Sao_Paulo")),
            ("Asia/Calcuta", Some("Asia/Calcutta")),
            ("Europe/Rosenheim", None),
            ("Europe/Bad Tölz", None),
            ("Europe/", None),
            ("GMT+01:00", None),
            ("", None),
        ] {
            assert_eq!(meant(written), zone, "{written}");
        }
        assert!(MEANT.iter().all(|(name, zone)| zone.parse::<Tz>().is_ok() && name.parse::<Tz>().is_err()));
        assert!(help("Europe/Rosenheim").contains("list-timezones"));
        assert!(help(&"ü".repeat(1_000)).contains("list-timezones"));
    }
}
