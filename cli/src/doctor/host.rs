//! What of this host decides whether a GPU can be used: hardware, kernel module, device files,
//! container, WSL, limits. Files are read, nothing is run.

use super::finding::Finding;
use serde::Serialize;
use std::path::Path;

/// NVIDIA's number on the PCI bus, and the class of display controllers.
const VENDOR: &str = "0x10de";
const DISPLAY: &str = "0x03";

/// What was found.
#[derive(Clone, Default, Serialize)]
pub struct Host {
    /// NVIDIA devices on the PCI bus.
    pub pci_gpus: usize,
    /// First line of the kernel module's version.
    pub kernel_module: Option<String>,
    /// Files `/dev/nvidia<N>`.
    pub device_files: usize,
    /// `/dev/nvidiactl` and `/dev/nvidia-uvm` are there.
    pub control_files: bool,
    /// `/dev/dxg`: the GPU under WSL.
    pub wsl_gpu: bool,
    /// Under WSL.
    pub wsl: bool,
    /// In a container.
    pub container: bool,
    /// Soft limit of locked memory, as the system says it: bytes or "unlimited".
    pub memlock: Option<String>,
    /// The same in words.
    pub findings: Vec<Finding>,
}

impl Host {
    /// Reads the facts under `root`, which is `/` but for tests.
    pub fn read(root: &Path) -> Host {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let there = |path: &str| root.join(path).exists();
        let module = text("proc/driver/nvidia/version");
        let groups = text("proc/1/cgroup");
        let names = ["docker", "kubepods", "containerd", "libpod", "lxc"];
        Host {
            pci_gpus: pci_gpus(&root.join("sys/bus/pci/devices")),
            kernel_module: module.lines().next().map(|line| line.trim().to_owned()),
            device_files: numbered(&root.join("dev")),
            control_files: there("dev/nvidiactl") && there("dev/nvidia-uvm"),
            wsl_gpu: there("dev/dxg"),
            wsl: text("proc/version").to_lowercase().contains("microsoft"),
            container: there(".dockerenv")
                || there("run/.containerenv")
                || names.iter().any(|name| groups.contains(name)),
            memlock: memlock(&text("proc/self/limits")),
            findings: vec![],
        }
    }

    /// A GPU should be usable here.
    pub fn has_gpu(&self) -> bool {
        self.pci_gpus > 0 || self.kernel_module.is_some() || self.device_files > 0 || self.wsl_gpu
    }

    /// In words. `has_driver`: a driver library was loaded; `mig`: NVML says the device is cut up.
    pub fn judge(&mut self, has_driver: bool, mig: bool) {
        self.judge_hardware(has_driver);
        let limit = self.memlock.as_deref().unwrap_or("unknown");
        self.findings.push(Finding::good(
            format!("locked memory: {}", bytes(limit)),
            "the driver pins the stamps' memory (2 MiB per attachment) itself; look at this limit \
             if attaching fails with error 304",
        ));
        if self.wsl {
            self.findings.push(Finding::absent(
                "this is WSL",
                "the driver is the Windows host's; registering memory is not proved there, the \
                 stamps' self test above decides",
            ))
        }
        if mig {
            self.findings.push(Finding::absent(
                "MIG: the device is cut into instances",
                "stamps work per instance; utilization, power and the like belong to the whole \
                 board and have no series",
            ))
        }
        if self.container {
            self.findings.push(Finding::good(
                "in a container",
                "only devices and libraries that were passed in are seen",
            ))
        }
    }

    fn judge_hardware(&mut self, has_driver: bool) {
        let container = "pass the GPUs into the container: `docker run --gpus all`, or the \
                         nvidia runtime class in Kubernetes";
        if self.wsl_gpu {
            return self.findings.push(Finding::good("GPU of the Windows host, /dev/dxg", ""));
        }
        match (self.pci_gpus, self.kernel_module.clone(), self.device_files) {
            (0, None, 0) => self.findings.push(Finding::absent(
                "no NVIDIA hardware, kernel module or device files",
                "there is no GPU to time here",
            )),
            (pci, None, _) => {
                let found = format!("{pci} NVIDIA devices on the PCI bus, no kernel module");
                let todo = "install NVIDIA's driver, or load the module (`modprobe nvidia`)";
                self.findings.push(Finding::broken(found, "nobody can use the GPU", todo))
            }
            (_, Some(module), 0) => {
                let todo = if self.container {
                    container
                } else {
                    "run `nvidia-modprobe -u -c 0`, or `nvidia-smi` as root: both make the files"
                };
                let found = format!("kernel module, but no /dev/nvidia<N>: {module}");
                self.findings.push(Finding::broken(found, "this process has no device", todo))
            }
            (_, Some(module), files) => {
                self.findings.push(Finding::good(format!("{files} device files; {module}"), ""));
                if !self.control_files {
                    let found = "/dev/nvidiactl or /dev/nvidia-uvm is missing";
                    let todo =
                        if self.container { container } else { "run `nvidia-modprobe -u -c 0`" };
                    self.findings.push(Finding::broken(found, "CUDA cannot start", todo))
                }
                if !has_driver {
                    let means = "the kernel's part of the driver is there, the library is not";
                    let todo = "in a container add `compute,utility` to NVIDIA_DRIVER_CAPABILITIES; \
                                else install the package that holds libcuda.so.1";
                    self.findings.push(Finding::broken("no libcuda.so.1", means, todo))
                }
            }
        }
    }
}

fn pci_gpus(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let says = |path: &Path, file: &str, start: &str| {
        std::fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim().starts_with(start))
    };
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| says(path, "vendor", VENDOR) && says(path, "class", DISPLAY)).count()
}

/// How many `nvidia<N>` a folder holds.
fn numbered(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    names.filter(|name| name.strip_prefix("nvidia").is_some_and(is_number)).count()
}

/// The soft limit in `/proc/self/limits`.
fn memlock(limits: &str) -> Option<String> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn bytes(limit: &str) -> String {
    match limit.parse::<u64>() {
        Ok(bytes) if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        Ok(bytes) => format!("{} KiB", bytes >> 10),
        Err(_) => limit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap()
        }
        root
    }

    fn judged(files: &[(&str, &str)], has_driver: bool) -> (Host, String) {
        let root = root(files);
        let mut host = Host::read(root.path());
        host.judge(has_driver, false);
        let text = host.findings.iter().map(Finding::text).collect::<Vec<_>>().join("\n");
        (host, text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    const MODULE: (&str, &str) = ("proc/driver/nvidia/version", "NVRM version: 580.1\nGCC\n");

    #[test]
    fn a_host_without_hardware_has_nothing_broken() {
        let limits = "Limit   Soft   Hard\nMax locked memory         8388608    8388608    bytes\n";
        let (host, text) = judged(&[("proc/self/limits", limits)], false);
        assert!(!host.has_gpu() && text.contains("locked memory: 8 MiB"), "{text}");
        assert!(host.findings.iter().all(|finding| finding.state != State::Broken));
    }

    #[test]
    fn hardware_without_a_module_is_broken_and_says_what_to_do() {
        let pci = [
            ("sys/bus/pci/devices/0000:65:00.0/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:65:00.0/class", "0x030200\n"),
            ("sys/bus/pci/devices/0000:65:00.1/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:65:00.1/class", "0x040300\n"),
        ];
        let (host, text) = judged(&pci, false);
        assert_eq!((host.pci_gpus, host.has_gpu()), (1, true));
        assert!(text.contains("!! 1 NVIDIA devices") && text.contains("modprobe nvidia"), "{text}");
    }

    #[test]
    fn a_container_without_device_files_is_told_how_to_get_them() {
        let (_, text) = judged(&[MODULE, (".dockerenv", "")], true);
        assert!(text.contains("!! kernel module, but no /dev/nvidia<N>"), "{text}");
        assert!(
            text.contains("docker run --gpus all") && text.contains("in a container"),
            "{text}"
        );
    }

    #[test]
    fn a_module_without_the_library_is_named_and_a_whole_host_is_good() {
        let files = [MODULE, ("dev/nvidia0", ""), ("dev/nvidiactl", ""), ("dev/nvidia-uvm", "")];
        let (host, text) = judged(&files, false);
        assert_eq!(host.device_files, 1);
        assert!(text.contains("NVIDIA_DRIVER_CAPABILITIES"), "{text}");
        let (host, _) = judged(&files, true);
        assert!(host.findings.iter().all(|finding| finding.state == State::Good));
    }
}
