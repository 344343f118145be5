//! Fuzzing target: `X-Forwarded-For`, a line of the header each.

use herald_fuzz::Target;

use super::*;

#[test]
fn forwarded_for() {
    let from: SocketAddr = "10.0.0.1:9".parse().expect("an address");
    let trusts = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd00,
    };
    Target::new("forwarded_for")
        .seeds([
            "203.0.113.7, 10.0.0.2",
            "203.0.113.7\n10.0.0.3, [fd00::1]:80,10.0.0.2:4711",
            "\u{e9}, nonsense, 203.0.113.7",
            "[2001:db8::1], fd00::2",
            "unknown",
        ])
        .tokens([
            ",",
            ", ",
            "\n",
            "10.0.0.1",
            "fd00::1",
            "[fd00::1]",
            ":80",
            "::ffff:10.0.0.9",
            "[::ffff:a00:1]:1",
            "%1",
            "\t",
            "for=",
            "0x0a000001",
            "010.0.0.1",
            "::",
        ])
        .longest(900)
        .run(|input| {
            let lines: Vec<_> = input.split(|byte| *byte == b'\n').collect();
            let way = Way::back(lines.iter().rev().copied(), from, trusts);
            assert!(way.hops[0] == from && way.hops.len() <= MOST_HOPS);
            let (last, vouching) = way.hops.split_last().expect("never empty");
            assert!(vouching.iter().all(|hop| trusts(hop.ip())), "whoever is not trusted is believed in nothing");
            assert_eq!(trusts(last.ip()), way.end != Told::Untrusted);
            // What stands farther left changes nothing.
            let invented = [&[&b"127.0.0.1"[..]], lines.as_slice()].concat();
            let same = Way::back(invented.iter().rev().copied(), from, trusts);
            assert!(way.end == Told::Nothing || same == way);
            for item in lines.iter().flat_map(|line| line.split(|byte| *byte == b',')) {
                if let Some(address) = address(item) {
                    assert_eq!(address.ip(), address.ip().to_canonical());
                    assert_eq!(super::address(address.to_string().as_bytes()), Some(address));
                }
            }
            (way.hops.len(), way.end as u8)
        });
}
