//! Fuzzing target: what stands in front of the first request of a connection.

use std::net::IpAddr;

use herald_fuzz::Target;

use super::*;

#[test]
fn proxy_headers() {
    let v2 = |command: u8, family: u8, body: &[u8]| {
        let length = (body.len() as u16).to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, body, b"GET / HTTP/1.1\r\n"].concat()
    };
    Target::new("proxy_headers")
        .seeds([
            &b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\n"[..],
            b"PROXY TCP6 2001:db8::7 fd00::1 65535 0\r\n",
            b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n",
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
            b"GET / HTTP/1.1\r\n",
        ])
        .seeds([
            v2(0x21, 0x11, &[203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80]),
            v2(0x21, 0x21, &[0x20; 36]),
            v2(0x20, 0x00, &[]),
            v2(0x21, 0x11, &[&[203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80][..], &[0xE0, 0, 3, 1, 2, 3]].concat()),
            v2(0x21, 0x31, &[7; 216]),
        ])
        .tokens([
            &b"PROXY "[..],
            b"TCP4 ",
            b"TCP6 ",
            b"UNKNOWN",
            b"\r\n",
            b" ",
            b"\n",
            b"\r\n\r\n\0\r\nQUIT\n",
            b"\x21\x11",
            b"\x20",
            b"\0\x0c",
            b"::ffff:",
            b"1.2.3.4",
            b"::1",
            b"%eth0",
        ])
        .longest(LONGEST + 200)
        .run(|input| {
            // As the bytes come in: more is waited for, until it is known, and then it stays so.
            let whole = extent(&input[..input.len().min(LONGEST)]);
            let mut known = None;
            for seen in (0..=input.len().min(LONGEST)).filter(|seen| *seen < 300 || seen % 97 == 0) {
                match extent(&input[..seen]) {
                    Extent::More => assert!(known.is_none(), "known before, and not any more"),
                    extent => assert_eq!(*known.get_or_insert(extent), whole, "at {seen}"),
                }
            }
            assert!(whole != Extent::More || input.len() < LONGEST, "never waits for more than is looked at");
            let Extent::Bytes(bytes) = whole else { return (0, None, matches!(whole, Extent::Nothing)) };
            assert!(bytes <= input.len() && bytes <= LONGEST);
            let header = &input[..bytes];
            let client = client(header);
            if let Ok(Some(client)) = client {
                assert_eq!(client.ip(), client.ip().to_canonical());
                assert!(says(header, client), "{client} in {}", header.escape_ascii());
            }
            (1 + u8::from(header.starts_with(LINE)), Some(client.as_ref().is_ok_and(Option::is_some)), client.is_ok())
        });
}

/// Whether a header names that client, by a way of our own.
fn says(header: &[u8], client: SocketAddr) -> bool {
    if let Ok(text) = std::str::from_utf8(header)
        && text.starts_with("PROXY ")
    {
        let words: Vec<_> = text.trim_end_matches(['\r', '\n']).split(' ').collect();
        let [_, family, source, _, port, _] = words[..] else { return false };
        let ip: Option<IpAddr> = source.parse().ok();
        return ip.is_some_and(|ip| ip.to_canonical() == client.ip() && ip.is_ipv4() == (family == "TCP4"))
            && port.parse() == Ok(client.port());
    }
    let body = &header[FIXED..];
    let (ip, port): (IpAddr, _) = match header[FIXED - 3] >> 4 {
        1 => (<[u8; 4]>::try_from(&body[..4]).expect("four").into(), &body[8..10]),
        2 => (<[u8; 16]>::try_from(&body[..16]).expect("sixteen").into(), &body[32..34]),
        _ => return false,
    };
    header[FIXED - 4] == 0x21 && ip.to_canonical() == client.ip() && port == client.port().to_be_bytes()
}
