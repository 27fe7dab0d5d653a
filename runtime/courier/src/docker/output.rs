//! A container's output: taken apart where the engine sends two streams in one, and cut to what an answer holds.

use theriac_protocol::docker::MAX_LOG;

/// A line is cut there, in characters.
const MAX_LINE: usize = 2048;
/// One byte that says which stream, three of padding, four of length.
const HEADER: usize = 8;

/// The last lines, oldest first. What is no UTF-8 is shown as such.
pub(super) fn lines(body: &[u8], tty: bool, most: usize) -> Vec<String> {
    let merged;
    let text = if tty {
        String::from_utf8_lossy(body)
    } else {
        merged = merge(body);
        String::from_utf8_lossy(&merged)
    };
    let mut left = MAX_LOG;
    let mut newest = Vec::new();
    for line in text.lines().rev().take(most) {
        let line: String = line.trim_end_matches('\r').chars().take(MAX_LINE).collect();
        let Some(rest) = left.checked_sub(line.len()) else { break };
        left = rest;
        newest.push(line);
    }
    newest.reverse();
    newest
}

/// Both streams in the order in which the engine has them. A length that is not kept is taken for what there is.
fn merge(body: &[u8]) -> Vec<u8> {
    let mut merged = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let [_, _, _, _, a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (payload, next) = after.split_at(length.min(after.len()));
        merged.extend_from_slice(payload);
        rest = next;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: u8, text: &[u8]) -> Vec<u8> {
        let mut piece = vec![stream, 0, 0, 0];
        piece.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        piece.extend_from_slice(text);
        piece
    }

    #[test]
    fn two_streams_become_one_and_a_terminals_is_one_already() {
        let body =
            [piece(1, b"started\n"), piece(2, b"oops: \xff\x1b[2J\n"), piece(1, b"go"), piece(1, b"ne")].concat();
        assert_eq!(lines(&body, false, 9), ["started", "oops: \u{fffd}\u{1b}[2J", "gone"]);
        assert_eq!(lines(&body, false, 2), ["oops: \u{fffd}\u{1b}[2J", "gone"]);
        assert_eq!(lines(b"one\r\ntwo\r\n", true, 9), ["one", "two"]);
    }

    #[test]
    fn lengths_that_are_not_kept_cost_nothing() {
        assert_eq!(lines(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x'], false, 9), ["x"]);
        assert_eq!(lines(&[1, 0, 0], false, 9), [""; 0]);
        assert_eq!(lines(&piece(9, b"x"), false, 0), [""; 0]);
        let empty = [0; HEADER].repeat(100_000);
        assert_eq!(lines(&empty, false, 9), [""; 0]);
    }

    #[test]
    fn an_answer_is_bounded_in_lines_in_bytes_and_in_each_line() {
        let long = vec![b'x'; 5000];
        assert_eq!(lines(&long, true, 1).first().map(String::len), Some(MAX_LINE));
        let many = b"0123456789\n".repeat(100_000);
        let kept = lines(&many, true, usize::MAX);
        assert!(kept.iter().map(String::len).sum::<usize>() <= MAX_LOG && kept.len() > 6_000);
    }
}
