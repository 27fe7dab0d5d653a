//! Whether a container is the one that this process runs in. Nobody can grant that one, under whatever name or label.

use std::fs;

use theriac_model::container::ContainerId;

/// Where an engine's id shows from within: the cgroup's path, and the files that engines mount over `/etc`.
const SHOWN_IN: [&str; 2] = ["/proc/self/cgroup", "/proc/self/mountinfo"];

/// This process runs in it. A full id is 64 random digits: it stands in these files for no other reason. Files that can't be
/// read tell nothing, and the answer to nothing is yes.
pub(super) fn is_own(id: &ContainerId) -> bool {
    SHOWN_IN.iter().any(|path| fs::read_to_string(path).map_or(true, |text| shows(&text, id)))
}

fn shows(text: &str, id: &ContainerId) -> bool {
    text.contains(id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> ContainerId {
        ContainerId::parse(&digit.repeat(64)).unwrap()
    }

    #[test]
    fn the_container_around_us_is_known_by_its_cgroup_or_its_mounts_and_another_is_not_taken_for_it() {
        let digits = "c".repeat(64);
        for text in [
            format!("0::/system.slice/docker-{digits}.scope\n"),
            format!("1:name=systemd:/docker/{digits}\n"),
            format!("0::/machine.slice/libpod-{digits}.scope/container\n"),
            format!("612 598 8:1 /var/lib/docker/containers/{digits}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"),
        ] {
            assert!(shows(&text, &id("c")), "{text}");
            assert!(!shows(&text, &id("d")), "{text}");
        }
        assert!(!shows("0::/\n", &id("c")));
        assert!(!is_own(&id("c")), "these tests run in no such container");
    }
}
