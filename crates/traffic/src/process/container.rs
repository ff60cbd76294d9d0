//! Reads from `/proc/PID/cgroup` which container a process runs in (cgroups(7)).
//!
//! Container engines name control groups after their containers, each in its own way, with or
//! without systemd, and alike in version 1 and 2. None of this is a standard; what is not known
//! here is no container.

/// Lines of the file that are looked at. Version 1 has one for each controller, about 13.
const LINES_MAX: usize = 64;
/// Parts of a path that are looked at, from the root on. Containers in containers in pods reach 10.
const PARTS_MAX: usize = 64;

/// A container as its engine names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Who runs it.
    pub runtime: ContainerRuntime,
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The uid of the Kubernetes pod it belongs to, in the usual form with dashes.
    pub pod: Option<String>,
}

/// Who runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerRuntime {
    /// Docker.
    Docker,
    /// Podman, and other users of libpod.
    Podman,
    /// containerd without Docker, mostly under Kubernetes.
    Containerd,
    /// CRI-O.
    Crio,
    /// One that does not say, as under Kubernetes without systemd.
    Unnamed,
}

impl ContainerRuntime {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Unnamed => "unnamed",
        }
    }
}

/// Reads the text of `/proc/PID/cgroup`: lines of `hierarchy:controllers:path`. Of containers
/// within containers the innermost is answered.
#[must_use]
pub fn parse(text: &str) -> Option<Container> {
    text.lines().take(LINES_MAX).find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        parse_path(path)
    })
}

fn parse_path(path: &str) -> Option<Container> {
    let mut found: Option<Container> = None;
    let mut pod = None;
    let mut before = "";
    for part in path.split('/').take(PARTS_MAX) {
        pod = pod_of(part).or(pod);
        if let Some((runtime, id)) = container_of(part, before, pod.is_some()) {
            found = Some(Container {
                runtime,
                id: id.to_owned(),
                pod: pod.clone(),
            });
        }
        before = part;
    }
    found
}

/// One part of a path: `docker-ID.scope`, `cri-containerd-ID.scope`, `…:cri-containerd:ID`, or the
/// id alone below `docker` or a pod.
fn container_of<'a>(
    part: &'a str,
    before: &str,
    in_pod: bool,
) -> Option<(ContainerRuntime, &'a str)> {
    const PREFIXES: &[(&str, ContainerRuntime)] = &[
        ("docker-", ContainerRuntime::Docker),
        ("libpod-", ContainerRuntime::Podman),
        ("cri-containerd-", ContainerRuntime::Containerd),
        ("nerdctl-", ContainerRuntime::Containerd),
        ("crio-", ContainerRuntime::Crio),
    ];
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let prefixed = PREFIXES.iter().find_map(|(prefix, runtime)| {
        let id = name.strip_prefix(prefix)?;
        is_id(id).then_some((*runtime, id))
    });
    if prefixed.is_some() {
        return prefixed;
    }
    if let Some((_, id)) = part.rsplit_once(":cri-containerd:") {
        return is_id(id).then_some((ContainerRuntime::Containerd, id));
    }
    let runtime = match before {
        "docker" => ContainerRuntime::Docker,
        _ if in_pod => ContainerRuntime::Unnamed,
        _ => return None,
    };
    is_id(part).then_some((runtime, part))
}

/// `podUID` or, with systemd, `kubepods-besteffort-podUID.slice` with `_` for `-`.
fn pod_of(part: &str) -> Option<String> {
    let slice = part.split(':').next()?.strip_suffix(".slice");
    let name = match slice {
        Some(name) if name.starts_with("kubepods") => name.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => part.strip_prefix("pod")?,
    };
    let uid = name.replace('_', "-");
    let dashes = uid.bytes().filter(|byte| *byte == b'-').count();
    let is_uid = uid.len() == 36
        && dashes == 4
        && uid
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    is_uid.then_some(uid)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ff23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "2f3a1c52-8a4e-4d0e-9d55-0f0c4b7e9a11";

    fn check(text: &str, expected: &str) {
        let text = text
            .replace("OTHER", OTHER)
            .replace("ID", ID)
            .replace("POD_", &POD.replace('-', "_"))
            .replace("POD", POD);
        let shown = match parse(&text) {
            None => "none".to_owned(),
            Some(container) => {
                let id = match container.id.as_str() {
                    ID => "ID",
                    OTHER => "OTHER",
                    other => other,
                };
                let pod = container.pod.map_or("", |pod| {
                    assert_eq!(pod, POD);
                    " in a pod"
                });
                format!("{} {id}{pod}", container.runtime.as_str())
            }
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn finds_the_container_of_each_engine() {
        for (text, expected) in [
            ("0::/system.slice/docker-ID.scope\n", "docker ID"),
            ("13:rdma:/\n12:pids:/docker/ID\n0::/\n", "docker ID"),
            ("0::/machine.slice/libpod-ID.scope/container", "podman ID"),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
                "podman ID",
            ),
            ("5:cpu,cpuacct:/libpod_parent/libpod-ID", "podman ID"),
            (
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPOD_.slice/cri-containerd-ID.scope",
                "containerd ID in a pod",
            ),
            (
                "0::/kubepods.slice/kubepods-podPOD_.slice/crio-ID.scope",
                "cri-o ID in a pod",
            ),
            (
                "4:memory:/kubepods/burstable/podPOD/ID",
                "unnamed ID in a pod",
            ),
            (
                "0::/system.slice/containerd.service/kubepods-burstable-podPOD_.slice:cri-containerd:ID",
                "containerd ID in a pod",
            ),
            ("0::/../docker-ID.scope", "docker ID"),
            // Kubernetes in a container of Docker.
            (
                "0::/docker/OTHER/kubepods/besteffort/podPOD/ID",
                "unnamed ID in a pod",
            ),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        for text in [
            "",
            "0::/",
            "0::/user.slice/user-1000.slice/session-3.scope",
            "0::/system.slice/docker.service",
            "0::/system.slice/docker-0123.scope",
            // The process that watches over a container is not in it.
            "0::/machine.slice/libpod-conmon-ID.scope",
            "0::/something/ID",
            "rubbish",
            "0:",
        ] {
            check(text, "none");
        }
    }

    proptest! {
        #[test]
        fn takes_any_text(text in "\\PC{0,300}") {
            let _container = parse(&text);
        }
    }
}
