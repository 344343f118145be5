//! Fuzzing target: the record of a Game Master, whatever stands in it, and the rules at any time.

use herald_fuzz::{Target, line};
use herald_protocol::{SessionId, record::ActionKind};

use super::{Choose, GameMasterRecord, Standing, State};
use crate::config::GmConfig;

/// Numbers on the first line (now, an action, a cut), the record behind it.
#[test]
fn game_masters() {
    let (rules, ours) = (GmConfig::default(), SessionId::new("ours").expect("an id"));
    Target::new("game_masters")
        .seeds([
            "1700000000000 7 1699999999999\n{\"G\":\"g\",\"session\":\"theirs\",\"state\":\"playing\",\"since\":1699999999000,\"after\":7,\"choose\":7}",
            "10 0 0\n{\"session\":\"ours\",\"state\":\"starting\",\"since\":9,\"previous\":{\"session\":\"theirs\",\"after\":3},\"cut\":8,\"drop_news\":true}",
            "18446744073709551615 18446744073709551615 0\n{}",
        ])
        .tokens([
            "\"session\":", "\"state\":", "\"free\"", "\"playing\"", "\"since\":", "\"choose\":", "\"cut\":", "\"previous\":", "\"ours\"", ",", "{", "}",
            "null", "true", " ", "\n",
        ])
        .longest(600)
        .run(|input| {
            let (numbers, json) = line(input)?;
            let mut numbers = numbers.split(' ').map(|number| number.parse::<u64>().unwrap_or(u64::MAX));
            let mut number = || numbers.next().unwrap_or(0);
            let (now, action, at) = (number(), number(), number());
            let record: GameMasterRecord = serde_json::from_slice(json).ok()?;
            let written = serde_json::to_vec(&record).expect("JSON");
            assert_eq!(serde_json::from_slice::<GameMasterRecord>(&written).ok().as_ref(), Some(&record));
            let mut ways = Vec::new();
            for choose in [Choose::Over, Choose::Running, Choose::Cut(at)] {
                let standing = record.standing(&ours, now, choose, &rules);
                let claimed = record.claimed(&ours, now, choose, &rules);
                assert_eq!((&claimed.session, claimed.state), (&Some(ours.clone()), State::Starting));
                assert_eq!(claimed.standing(&ours, now, Choose::Over, &rules), Standing::Own);
                assert!(claimed.previous.as_ref().is_none_or(|previous| previous.session != ours));
                let left = record.left(now, choose);
                assert_eq!((&left.session, left.choose), (&None, None));
                let mut begun = record.clone();
                begun.begin(ActionKind::Choose, action, now, choose);
                assert_eq!(begun.choose, Some(action));
                assert!(begun.finish(action, false, now) && begun.cut == Some(now) && !begun.finish(action, true, now));
                ways.push((format!("{standing:?}"), claimed.drop_news, left.cut.is_some()));
            }
            Some(ways)
        });
}
