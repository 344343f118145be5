"""Stand-ins for the base images of compose/, under the same names, where no registry of images can be reached.

Nothing in them is invented, only put together otherwise: Debian's packages by debootstrap (gcc, HAProxy, Caddy, Prometheus, BusyBox), this
machine's Rust toolchain and the crates that Cargo.lock names, and the nats-server that scripts/lib/nats_server.py finds or brings. They have
the programs, paths, entry points and users that compose/ relies on, and no more: what was seen working with them is seen with these versions,
not with those that a registry would have given. Grafana is not among Debian's packages, and has none.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import nats_server

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
DEBIAN = "herald-stand-in/debian"
SUITE = "bookworm"
PACKAGES = ("busybox-static", "ca-certificates", "caddy", "gcc", "haproxy", "libc6-dev", "prometheus")
DEBOOTSTRAP_S, BUILD_S = 900, 900
# Of the toolchain, what no build needs.
LEFT_OUT = ("share", "lib/rustlib/src")


class NotMade(Exception):
    """The text says what to do."""


def references():
    """The images that compose/ names and does not build, without variables: {repository: whole name}."""
    found = {}
    for file in sorted(COMPOSE.glob("*.yaml")):
        for name in re.findall(r"^\s+image: (\S+)$", file.read_text(), re.MULTILINE):
            name = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", name)
            if not name.startswith("herald"):
                found[name.rsplit(":", 1)[0]] = name
    for name in re.findall(r"^FROM (\S+:\S+)", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE):
        found[name.rsplit(":", 1)[0]] = name
    return found


class Maker:
    """Makes them in the daemon that `docker` (a command with its environment) talks to."""

    def __init__(self, docker, env, scratch, say):
        self.docker, self.env, self.scratch, self.say = docker, env, Path(scratch), say

    def all(self):
        recipes = {"rust": self.rust, "nats": self.nats, "haproxy": self.haproxy, "caddy": self.caddy,
                   "prom/prometheus": self.prometheus}
        named = references()
        self.debian()
        for repository, recipe in recipes.items():
            # One that was kept is taken again, or everything that was built on it would be built anew.
            if repository in named and self.made_of(named[repository]) != self.sources():
                self.say(f"stand-in for {named[repository]}")
                recipe(named[repository])
        return [name for repository, name in named.items() if repository not in recipes]

    @staticmethod
    def sources():
        """What they are made of, as a hash: the crates and the toolchain, and this file."""
        rustc = subprocess.run(["rustc", "--version"], capture_output=True, check=True).stdout
        return hashlib.sha256((ROOT / "Cargo.lock").read_bytes() + Path(__file__).read_bytes() + rustc).hexdigest()

    def made_of(self, name):
        found = self.run(["image", "inspect", name, "--format", '{{index .Config.Labels "herald.sources"}}'], check=False)
        return found.stdout.decode().strip()

    def has(self, name):
        return self.run(["image", "inspect", name], check=False).returncode == 0

    def run(self, words, check=True, **more):
        done = subprocess.run([*self.docker, *words], env=self.env, capture_output=True, timeout=BUILD_S, **more)
        if check and done.returncode:
            raise NotMade(f"docker {' '.join(words[:2])}: {done.stderr.decode()[-1000:]}")
        return done

    def debian(self):
        if self.has(DEBIAN):
            return
        if not shutil.which("debootstrap"):
            raise NotMade("debootstrap is missing: apt-get install debootstrap")
        root = self.scratch / "debian"
        self.say(f"debootstrap {SUITE} with {', '.join(PACKAGES)}: some minutes")
        made = subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEBOOTSTRAP_S)
        if made.returncode:
            raise NotMade(f"debootstrap: {made.stdout[-1000:]}")
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        self.run(["import", "-", DEBIAN], stdin=tar.stdout)
        if tar.wait():
            raise NotMade("tar could not read what debootstrap made")
        shutil.rmtree(root)

    def build(self, name, dockerfile, folders=()):
        """Builds an image from lines of a Dockerfile and folders or files (`what it is called there`, path, names left out)."""
        lines = io.BytesIO("\n".join(dockerfile).encode())
        command = subprocess.Popen([*self.docker, "build", "--quiet", "--tag", name, "--label", f"herald.sources={self.sources()}", "-"], env=self.env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            with tarfile.open(fileobj=command.stdin, mode="w|") as tar:
                entry = tarfile.TarInfo("Dockerfile")
                entry.size = len(lines.getvalue())
                tar.addfile(entry, lines)
                for called, path, left_out in folders:
                    keep = lambda entry: None if entry.name[len(called) + 1:].startswith(left_out) else entry  # noqa: E731, B023
                    tar.add(path, called, filter=keep if left_out else None)
        except BrokenPipeError:
            pass  # What it says is better than that it has ended.
        _, said = command.communicate(timeout=BUILD_S)
        if command.returncode:
            raise NotMade(f"{name}: {said.decode()[-1000:]}")

    def rust(self, name):
        subprocess.run(["cargo", "fetch", "--locked", "--quiet"], cwd=ROOT, check=True, timeout=BUILD_S)
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
        home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        self.build(name, [
            f"FROM {DEBIAN}", "COPY toolchain /usr/local/rust", "COPY registry /usr/local/cargo/registry",
            # The crates are here already: a build needs no network.
            'ENV PATH="/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin" CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true',
        ], [("toolchain", sysroot, LEFT_OUT), ("registry/index", home / "registry/index", ()),
            ("registry/cache", home / "registry/cache", ())])

    def nats(self, name):
        self.build(name, [
            f"FROM {DEBIAN} AS debian", "FROM scratch", "COPY --from=debian /bin/busybox /bin/busybox",
            'RUN ["/bin/busybox", "--install", "-s", "/bin"]', "COPY nats-server /usr/local/bin/nats-server",
            'ENV PATH="/usr/local/bin:/bin"', 'ENTRYPOINT ["nats-server"]',
        ], [("nats-server", nats_server.ensure(self.say), ())])

    def haproxy(self, name):
        self.build(name, [f"FROM {DEBIAN}", "USER haproxy",
                          'ENTRYPOINT ["haproxy", "-W", "-db"]', 'CMD ["-f", "/usr/local/etc/haproxy/haproxy.cfg"]'])

    def caddy(self, name):
        self.build(name, [f"FROM {DEBIAN}", "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data", "RUN mkdir -p /config /data",
                          'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]'])

    def prometheus(self, name):
        self.build(name, [f"FROM {DEBIAN}", "RUN mkdir -p /prometheus && chown nobody:nogroup /prometheus", "USER nobody",
                          'ENTRYPOINT ["prometheus"]',
                          'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]'])
