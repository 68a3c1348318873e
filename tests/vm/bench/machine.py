# SPDX-License-Identifier: MIT
"""QEMU: the command line for a lane, the process, its monitor.

Three serial ports: the kernel's console, what the tests print, and the control
port. All of them and the monitor are socket pairs, so that nothing has a name
that a second bench could meet.

Names in QEMU: drive NAME is the device "nvme-NAME" with the block node
"drive-NAME", peer N the device "peerN" with the memory "mem-peerN", and each
sits at the bus "port-NAME" or "port-peerN". A drive of two paths has a second
device, "nvme-NAME-2" at "port-NAME-2".
"""
import json
import os
import select
import shutil
import socket
import subprocess
import time

QEMU = "qemu-system-x86_64"
TRACED = ("pci_nvme_io_cmd", "pci_nvme_admin_cmd", "pci_nvme_map_addr")
# The second controller of a drive that has two.
PATH_SUFFIX = "-2"
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class MachineError(Exception):
    """QEMU can't do what was asked; the text says what."""


def size(text):
    """Bytes of 64M, 1G, 4096."""
    return int(text[:-1]) * UNITS[text[-1].upper()] if text[-1].upper() in UNITS else int(text)


def ports_switch(names):
    """All devices below one switch: peer requests need not go up to the root."""
    args = ["-device", "pcie-root-port,id=rp0,chassis=1,slot=1", "-device", "x3130-upstream,id=up0,bus=rp0"]
    for i, name in enumerate(names):
        args += ["-device", f"xio3130-downstream,id=port-{name},bus=up0,chassis={i + 2},slot={i + 2}"]
    return args


def ports_root(names):
    """A root port for each device: peer requests go through the host bridge."""
    args = []
    for i, name in enumerate(names):
        args += ["-device", f"pcie-root-port,id=port-{name},chassis={i + 1},slot={i + 1}"]
    return args


TOPOLOGIES = {"switch": ports_switch, "root-ports": ports_root}


def memory_args(lane):
    """CPUs and memory, in one node or in equal parts over several, a socket each."""
    if lane.numa == 1:
        return ["-smp", str(lane.smp), "-m", lane.memory]
    part, cpus = size(lane.memory) // lane.numa, max(1, lane.smp // lane.numa)
    args = ["-smp", f"{cpus * lane.numa},sockets={lane.numa},cores={cpus}", "-m", lane.memory]
    for node in range(lane.numa):
        args += ["-object", f"memory-backend-ram,id=ram{node},size={part}",
                 "-numa", f"node,nodeid={node},memdev=ram{node},cpus={node * cpus}-{node * cpus + cpus - 1}"]
    return args


def drive_device(drive):
    """The controller with its namespace in it, as properties."""
    device = {"driver": "nvme", "id": f"nvme-{drive.name}", "serial": drive.name, "bus": f"port-{drive.name}",
              "drive": f"drive-{drive.name}"}
    if drive.kind == "raw-4k":
        device.update({"logical_block_size": 4096, "physical_block_size": 4096})
    for option in filter(None, drive.options.split(",")):
        key, _, text = option.partition("=")
        device[key] = int(text) if text.isdigit() else text
    return device


def drive_args(drive, run):
    """One controller; integrity metadata needs a namespace of its own, as does what two controllers share."""
    node = f"drive-{drive.name}"
    args = ["-blockdev", f"driver=raw,node-name={node},file.driver=file,file.filename={run}/{drive.name}.img"]
    device = drive_device(drive)
    if drive.kind == "raw-pi":
        del device["drive"]
        args += ["-device", ",".join(f"{k}={v}" for k, v in device.items()),
                 "-device", f"nvme-ns,id=ns-{drive.name},bus=nvme-{drive.name},drive={node},ms=8,pi=1"]
        return args
    if drive.kind == "raw-paths":
        del device["drive"]
        subsys = f"subsys-{drive.name}"
        args += ["-device", f"nvme-subsys,id={subsys},nqn={drive.name}"]
        for suffix in ("", PATH_SUFFIX):
            device.update({"id": f"nvme-{drive.name}{suffix}", "bus": f"port-{drive.name}{suffix}", "subsys": subsys})
            args += ["-device", ",".join(f"{k}={v}" for k, v in device.items())]
        return args + ["-device", f"nvme-ns,id=ns-{drive.name},bus=nvme-{drive.name},drive={node},nsid=1,shared=on"]
    return args + ["-device", ",".join(f"{k}={v}" for k, v in device.items())]


def port_names(lane):
    """What has a port of its own: each controller, each peer."""
    names = []
    for drive in lane.drives:
        names += [drive.name] + ([drive.name + PATH_SUFFIX] if drive.kind == "raw-paths" else [])
    return names + [f"peer{i}" for i in range(len(lane.peers))]


def command_line(lane, kernel, initrd, run, channels, shell):
    """The arguments of QEMU; channels are the file descriptors of console, tests, control, monitor."""
    if lane.topology not in TOPOLOGIES:
        raise MachineError(f"topology {lane.topology} is none of {' '.join(TOPOLOGIES)}")
    # Multi-threaded TCG unless instructions are counted.
    accel = "tcg" if lane.icount else "tcg,thread=multi"
    args = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35",
            "-accel", accel, "-cpu", lane.cpu, *memory_args(lane)]
    if lane.icount:
        args += ["-icount", f"shift={lane.icount}"]
    if lane.iommu != "none":
        args += ["-device", "intel-iommu"]
    append = ["console=ttyS0", "panic=-1", "oops=panic", "loglevel=7", "net.ifnames=0"]
    append += {"none": [], "off": ["intel_iommu=off"], "on": ["intel_iommu=on", "iommu.passthrough=0"],
               "passthrough": ["intel_iommu=on", "iommu.passthrough=1"]}[lane.iommu]
    if lane.icount:
        # The clock that the instructions drive, whatever the kernel thinks of it.
        append += ["tsc=reliable", "clocksource=tsc"]
    append.append(lane.append)
    args += ["-kernel", str(kernel / "bzImage"), "-initrd", str(initrd), "-append", " ".join(append)]

    args += ["-chardev", "stdio,id=console,signal=off" if shell else f"socket,id=console,fd={channels['console']}"]
    # Of the PC's ports the first and third share an interrupt; this one has its own.
    args += ["-device", "isa-serial,index=0,chardev=console"]
    for index, name, extra in ((1, "control", ""), (2, "tests", ",irq=5")):
        args += ["-chardev", f"socket,id={name},fd={channels[name]}", "-device", f"isa-serial,index={index},chardev={name}{extra}"]
    args += ["-chardev", f"socket,id=qmp,fd={channels['qmp']}", "-mon", "chardev=qmp,mode=control"]
    # An event that never comes opens the log; control.py switches the others.
    args += ["-d", "trace:pci_nvme_map_addr_cmb", "-D", f"{run}/trace"]

    args += TOPOLOGIES[lane.topology](port_names(lane))
    for drive in lane.drives:
        args += drive_args(drive, run)
    for i, length in enumerate(lane.peers):
        path = run / f"peer{i}"
        with open(path, "wb") as f:
            f.truncate(size(length))
        args += ["-object", f"memory-backend-file,id=mem-peer{i},share=on,mem-path={path},size={length}",
                 "-device", f"ivshmem-plain,id=peer{i},memdev=mem-peer{i},bus=port-peer{i}"]
    return args


class Monitor:
    """QMP over one socket; events are kept until asked for."""

    def __init__(self, sock):
        self.sock, self.buffer, self.events = sock, b"", []
        sock.setblocking(False)
        self.ready = False

    def _read(self, deadline):
        """One message, or MachineError at the deadline."""
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise MachineError("no answer from the monitor")
            data = self.sock.recv(65536)
            if not data:
                raise MachineError("the monitor is closed")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, arguments=None, timeout=30):
        """Run one command; returns what it returns."""
        deadline = time.monotonic() + timeout
        if not self.ready:
            while "QMP" not in self._read(deadline):
                pass
            self.ready = True
            self.command("qmp_capabilities")
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read(deadline)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise MachineError(answer["error"]["desc"])
            elif "return" in answer:
                return answer["return"]

    def wait_event(self, name, match="", timeout=30):
        """Wait for an event whose data hold a text; events that came before count once."""
        deadline = time.monotonic() + timeout
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name and match in json.dumps(event.get("data", {})):
                    return self.events.pop(i)
            message = self._read(deadline)
            if "event" in message:
                self.events.append(message)


class Machine:
    """The running QEMU. Its channels: console, tests, control (sockets), monitor."""

    NAMES = ("console", "tests", "control", "qmp")

    def __init__(self, lane, kernel, initrd, run, shell=False):
        if not shutil.which(QEMU):
            raise MachineError(f"no {QEMU}")
        pairs = {name: socket.socketpair() for name in self.NAMES}
        fds = {name: theirs.fileno() for name, (_, theirs) in pairs.items()}
        self.arguments = command_line(lane, kernel, initrd, run, fds, shell)
        # What it says on stderr goes where its errors are looked for.
        with open(run / "qemu.log", "wb") as log:
            self.process = subprocess.Popen(self.arguments, stdin=None if shell else subprocess.DEVNULL,
                                            stdout=None if shell else log, stderr=log, pass_fds=tuple(fds.values()),
                                            env=dict(os.environ, TMPDIR=str(run)))
        for _, theirs in pairs.values():
            theirs.close()
        self.sockets = {name: ours for name, (ours, _) in pairs.items()}
        self.monitor = Monitor(self.sockets["qmp"])

    def stop(self):
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for sock in self.sockets.values():
            sock.close()
        return self.process.returncode
