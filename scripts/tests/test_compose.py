"""That what compose/ says fits together and fits the rest: `./scripts/test-compose --static`. No Docker is needed."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import compose_files
import stand_ins
from compose_files import COMPOSE, FILES, ROOT

README = (ROOT / "README.md").read_text()
DOCKERFILE = (COMPOSE / "Dockerfile").read_text()
USERS = (ROOT / "nats/users.conf").read_text()
# What runs what is not ours, and so can't be held to all of it.
FOREIGN = {"real-gm", "real-arena"}
# Programs that are configured by HERALD_... variables; sim is not.
CONFIGURED = ("gm-bridge", "ingest", "lobby", "ws-edge")
HEALTHY = "service_healthy"


def keys(program):
    """The configuration keys of a program, as the README has them."""
    found = set()
    for part in ("shared", program):
        table = re.search(rf"<!-- config:{part} -->(.*?)<!-- /config:{part} -->", README, re.DOTALL)
        found |= set(re.findall(r"^\| `([\w.]+)` \|", table[1] if table else "", re.MULTILINE))
    return found


def program(image):
    """The program of one of our images, else None."""
    found = re.fullmatch(r"herald/([\w-]+):\S+", image)
    return found and found[1]


def environment(service):
    given = service.get("environment") or {}
    return dict(pair.split("=", 1) for pair in given) if isinstance(given, list) else given


class Compose(unittest.TestCase):
    def services(self):
        for file in FILES:
            yield from ((file, name, service) for name, service in compose_files.load(file)["services"].items())

    def test_files_are_valid_for_docker_compose_1_29_too(self):
        schema = compose_files.schema()
        for file in FILES:
            with self.subTest(file=file):
                self.assertEqual(compose_files.faults(compose_files.load(file), schema, schema), [])

    def test_the_schema_finds_what_is_wrong(self):
        schema = compose_files.schema()
        for wrong in ({"services": {"a": {"imag": "b"}}}, {"services": {"a": {"image": 3}}}, {"services": {"a": {"ports": "80"}}},
                      {"services": {"a": {"depends_on": {"b": {"condition": "soon"}}}}}, {"name": "too new for 1.29"}):
            self.assertNotEqual(compose_files.faults(wrong, schema, schema), [], wrong)

    def test_only_doors_are_published_and_ours_on_loopback(self):
        published = {(file, name): service["ports"] for file, name, service in self.services() if "ports" in service}
        self.assertEqual(set(published), {("compose.yaml", "ws-edge"), ("compose.yaml", "caddy"), ("compose.yaml", "grafana"),
                                          ("cluster.yaml", "balancer")})
        for (_, name), ports in published.items():
            if name != "caddy":
                self.assertTrue(all(port.startswith("127.0.0.1:") for port in ports), ports)

    def test_nobody_has_more_rights_than_it_needs(self):
        for _, name, service in self.services():
            self.assertEqual(service["cap_drop"], ["ALL"])
            self.assertEqual(service.get("cap_add", []), ["NET_BIND_SERVICE"] if name == "caddy" else [])
            self.assertIn("no-new-privileges:true", service["security_opt"])
            self.assertEqual(service["read_only"], name not in FOREIGN)
            self.assertFalse({"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & set(service))
            self.assertFalse([volume for volume in service.get("volumes", []) if "docker.sock" in volume])

    def test_everybody_has_limits_and_comes_back(self):
        for _, name, service in self.services():
            self.assertEqual(service["restart"], "no" if name == "checker" else "unless-stopped")
            self.assertIn("max-size", service["logging"]["options"])
            self.assertIn("pids_limit", service)
            if name not in FOREIGN:
                self.assertRegex(service["mem_limit"], r"^\d+[mg]$")

    def test_who_ends_gets_more_time_than_it_takes(self):
        limit = compose_files.seconds(re.search(r"^\| `shutdown.limit` \| `(\w+)`", README, re.MULTILINE)[1])
        drain = compose_files.seconds(re.search(r"^\| `drain.period` \| `(\w+)`", README, re.MULTILINE)[1])
        self.assertLess(drain, limit)
        for _, _, service in self.services():
            if program(service["image"]) in CONFIGURED:
                self.assertGreater(compose_files.seconds(service["stop_grace_period"]), limit)

    def test_images_are_pinned_or_built_here(self):
        stages = compose_files.stages()
        for file in FILES:
            services = compose_files.load(file)["services"]
            built = {service["image"]: service["build"]["target"] for service in services.values()
                     if "target" in service.get("build", {})}
            for name, service in services.items():
                with self.subTest(file=file, service=name):
                    image = service["image"]
                    if program(image):
                        self.assertEqual(built[image], program(image))
                        self.assertIn(f'ENTRYPOINT ["/{program(image)}"]', stages[program(image)])
                    elif name not in FOREIGN:
                        self.assertRegex(image, r":v?\d+\.\d+")
                    for path in (service.get("build") or {}).get("context", ""), (service.get("build") or {}).get("dockerfile", ""):
                        self.assertTrue((COMPOSE / path).exists() or (ROOT / path).exists(), path)

    def test_versions_are_those_of_the_rest(self):
        named = stand_ins.references()
        self.assertIn(stand_ins.nats_server.pinned(), named["nats"])
        rust = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertTrue(named["rust"].startswith(f"rust:{rust}-"), named["rust"])
        for file in FILES:
            self.assertIn(named["nats"], (COMPOSE / file).read_text())

    def test_each_variable_of_a_service_is_a_key_of_it(self):
        for _, _, service in self.services():
            name = program(service["image"])
            for variable in environment(service) if name in CONFIGURED else ():
                if variable.startswith("HERALD_"):
                    self.assertIn(variable.removeprefix("HERALD_").lower().replace("__", "."), keys(name))
                else:
                    self.assertIn(variable, ("NATS_URL", "GM_BASE_URL", "PORT", "OTEL_EXPORTER_OTLP_ENDPOINT"))
        for stage, lines in compose_files.stages().items():
            for variable in re.findall(r"(HERALD_\w+)=", "\n".join(line for line in lines if line.startswith("ENV"))):
                key = variable.removeprefix("HERALD_").lower().replace("__", ".")
                self.assertIn(key, keys(stage if stage in CONFIGURED else "ingest"), variable)

    def test_the_example_of_an_env_file_has_every_variable_and_its_default(self):
        used = {}
        for file in FILES:
            for name, defaults in compose_files.variables((COMPOSE / file).read_text()).items():
                used.setdefault(name, set()).update(defaults)
        used["HERALD_DOMAIN"] = {"localhost"}
        example = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
        own = {name for name in example if name.startswith("COMPOSE_")}
        # Of the checker alone.
        self.assertEqual(set(used) - {"HERALD_CHECK_SECONDS", "HERALD_GM__CUT_CHOOSE"}, set(example) - own)
        set_in_it = dict(re.findall(r"^([A-Z_]+)=(.*)$", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
        for name, defaults in used.items():
            self.assertEqual(len(defaults), 1, f"{name}: {defaults}")
            if name in set_in_it:
                self.assertEqual({set_in_it[name]}, defaults, name)

    def test_networks_volumes_and_files_are_there(self):
        for file in FILES:
            whole, used = compose_files.load(file), {"networks": set(), "volumes": set()}
            for name, service in whole["services"].items():
                used["networks"] |= set(service["networks"])
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0]
                    if not source.startswith("."):
                        used["volumes"].add(source)
                    else:
                        self.assertTrue((COMPOSE / source).exists(), f"{file}: {name}: {source}")
                        self.assertTrue(volume.endswith(":ro"), f"{file}: {name}: {volume}")
            for kind, names in used.items():
                self.assertEqual(names, set(whole[kind]), f"{file}: {kind}")
            self.assertTrue(whole["networks"]["backbone"]["internal"])
            at = {name: set(service["networks"]) for name, service in whole["services"].items()}
            for name in at:
                if name.startswith("nats"):
                    self.assertEqual(at[name], {"backbone"}, "nobody outside reaches nats-server")

    def test_every_edge_file_that_can_be_chosen_is_one(self):
        listener = set(re.findall(r"^\| `([\w.]+)` \|", README[README.index("Each entry of `listeners`"):], re.MULTILINE))
        try:
            import tomllib  # noqa: PLC0415
        except ImportError:
            self.skipTest("Python before 3.11 reads no TOML")
        for file in (COMPOSE / "edges").glob("*.toml"):
            with self.subTest(file=file.name):
                listeners = tomllib.loads(file.read_text())["ws-edge"]["listeners"]
                self.assertTrue(listeners)
                for entry in listeners:
                    self.assertRegex(entry["address"], r"^[\d.]+:\d+$")
                    for table in (entry, *entry.get("routes", ()), *entry.get("forwards", ())):
                        names = {name for name in table if not isinstance(table[name], dict)}
                        self.assertLessEqual(names, listener | {"routes", "forwards"})

    def test_services_wait_for_those_that_are_there_and_can_say_that_they_are_well(self):
        stages = compose_files.stages()
        for file in FILES:
            services = compose_files.load(file)["services"]
            for name, service in services.items():
                for other, how in (service.get("depends_on") or {}).items():
                    with self.subTest(file=file, service=name, on=other):
                        self.assertLessEqual(set(services[other].get("profiles", ())), set(service.get("profiles", ())))
                        self.assertEqual(how, {"condition": HEALTHY})
                        of_image = stages.get(program(services[other]["image"]) or "", [])
                        self.assertTrue("healthcheck" in services[other] or any(line.startswith("HEALTHCHECK") for line in of_image))

    def test_each_service_is_the_user_it_says_by_the_password_that_nats_has(self):
        users = dict(re.findall(r"user: ([\w-]+), password: \$(\w+)", USERS))
        for file in FILES:
            services = compose_files.raw(file)["services"]
            for node in (service for name, service in services.items() if name.startswith("nats")):
                given = environment(node)
                for variable in users.values():
                    if not variable.endswith("DICE_PASSWORD"):
                        self.assertIn(variable, given)
            for name, service in services.items():
                given = environment(service)
                if "HERALD_NATS__USER" in given:
                    with self.subTest(file=file, service=name):
                        variable = users[given["HERALD_NATS__USER"]]
                        self.assertIn(f"${{{variable}:-", given["HERALD_NATS__PASSWORD"])

    def test_nats_server_takes_its_configuration(self):
        binary = os.environ.get("HERALD_NATS_SERVER") or shutil.which("nats-server")
        if not binary:
            self.skipTest("no nats-server")
        variables = {name: "p1" for name in re.findall(r"\$(HERALD_\w+)", USERS)}
        for file, more in (("nats.conf", []), ("nats-cluster.conf", ["-n", "a", "--cluster", "nats://route:p@127.0.0.1:-1"])):
            with self.subTest(file=file), tempfile.TemporaryDirectory() as folder:
                # As it is mounted.
                shutil.copy(COMPOSE / file, Path(folder, "nats-server.conf"))
                shutil.copytree(ROOT / "nats", Path(folder, "herald"))
                done = subprocess.run([binary, "-c", f"{folder}/nats-server.conf", "-sd", folder, *more, "-t"],
                                      env={**os.environ, **variables}, capture_output=True, text=True, timeout=30)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_balancer_and_prometheus_ask_those_that_are_there(self):
        cluster, single = (compose_files.load(file)["services"] for file in ("cluster.yaml", "compose.yaml"))
        balancer = (COMPOSE / "haproxy.cfg").read_text()
        edges = set(re.findall(r"^    server (\S+) \1:8000$", balancer, re.MULTILINE))
        self.assertEqual(edges, {name for name in cluster if name.startswith("edge-")})
        self.assertIn("port 9100", balancer)
        beat = max(compose_files.seconds(text) for text in
                   re.findall(r"^\| `(?:socket|sse)\.heartbeat` \| `(\w+)`", README, re.MULTILINE))
        for name in ("client", "server", "tunnel"):
            self.assertGreater(compose_files.seconds(re.search(rf"timeout {name} (\w+)", balancer)[1]), 2 * beat)
        scraped = (COMPOSE / "observability/prometheus-compose.yml").read_text()
        jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in compose_files.parse(scraped)[0]["scrape_configs"]}
        for job, asked in jobs.items():
            self.assertEqual(asked["port"], 9100)
            for services in (single, cluster):
                there = {name for name, service in services.items() if program(service["image"]) == job}
                self.assertLessEqual(there, set(asked["names"]), job)
            for name in asked["names"]:
                service = single.get(name) or cluster.get(name)
                self.assertEqual(program(service["image"]), job)


class Images(unittest.TestCase):
    def test_every_crate_is_in_the_layer_of_dependencies(self):
        members = re.search(r"^members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.MULTILINE | re.DOTALL)[1]
        for member in re.findall(r'"(.+?)"', members):
            self.assertIn(f"COPY {member}/Cargo.toml {member}/\n", DOCKERFILE)
            self.assertTrue((ROOT / member / "src/lib.rs").exists(), f"{member}: the Dockerfile makes an empty src/lib.rs for it")

    def test_every_target_that_cargo_would_miss_is_made(self):
        for manifest in (ROOT / "services").glob("*/Cargo.toml"):
            for kind, name in re.findall(r'^\[\[(bin|bench)\]\]\nname = "(.+?)"', manifest.read_text(), re.MULTILINE):
                made = f"services/{manifest.parent.name}/src/bin/{name}.rs" if kind == "bin" else f"benches/{name}.rs"
                self.assertIn(made, DOCKERFILE)

    def test_images_hold_one_program_and_run_as_nobody(self):
        stages = compose_files.stages()
        for name, lines in stages.items():
            if name in ("build", "base"):
                continue
            with self.subTest(image=name):
                self.assertIn("USER 65532:65532", lines)
                programs = [line for line in lines if re.match(r"COPY --from=build /[\w-]+ ", line)]
                self.assertEqual(programs, [f"COPY --from=build /{name} /{name}"])
                self.assertIn(f"--bin {name}", DOCKERFILE)
                probe = [line for line in lines if line.startswith("HEALTHCHECK")]
                self.assertEqual(bool(probe), name != "sim")
                self.assertTrue(all(f'["/{name}", "healthcheck"]' in line for line in probe))
        self.assertTrue(re.search(r"^FROM scratch AS base$", DOCKERFILE, re.MULTILINE))

    def test_a_build_sees_sources_alone(self):
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        self.assertEqual(lines[1], "*")
        self.assertIn("**/target", lines)
        self.assertNotIn("!.git", lines)
        shown = {line[1:] for line in lines if line.startswith("!") and "/" not in line}
        copied = {word for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
        self.assertEqual({word.split("/")[0] for word in copied}, shown)


class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.found = [entry for file in sorted((COMPOSE / "kubernetes").glob("*.yaml")) for entry in compose_files.parse(file.read_text())]
        cls.workloads = [entry for entry in cls.found if entry["kind"] in ("Deployment", "StatefulSet")]

    def test_whoever_has_brothers_has_a_budget(self):
        budgets = {entry["metadata"]["name"]: entry["spec"] for entry in self.found if entry["kind"] == "PodDisruptionBudget"}
        self.assertEqual(set(budgets), {entry["metadata"]["name"] for entry in self.workloads if entry["spec"]["replicas"] > 1})
        for name, budget in budgets.items():
            self.assertEqual(budget["selector"]["matchLabels"], {"app": name})

    def test_pods_are_probed_limited_and_have_time_to_end(self):
        for entry in self.workloads:
            name, pod = entry["metadata"]["name"], entry["spec"]["template"]["spec"]
            with self.subTest(name):
                self.assertEqual(entry["spec"]["selector"]["matchLabels"], entry["spec"]["template"]["metadata"]["labels"])
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertFalse(pod["automountServiceAccountToken"])
                container, = pod["containers"]
                before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                self.assertGreater(pod["terminationGracePeriodSeconds"], 25 + before)
                self.assertLessEqual({"startupProbe", "readinessProbe", "livenessProbe"}, set(container))
                self.assertIn("memory", container["resources"]["limits"])
                rights = container["securityContext"]
                self.assertTrue(rights["readOnlyRootFilesystem"])
                self.assertFalse(rights["allowPrivilegeEscalation"])
                self.assertEqual(rights["capabilities"], {"drop": ["ALL"]})
                mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
                there = {volume["name"] for volume in pod.get("volumes", ())}
                there |= {claim["metadata"]["name"] for claim in entry["spec"].get("volumeClaimTemplates", ())}
                self.assertEqual(mounted, there)

    def test_images_variables_and_files_are_those_of_compose(self):
        images = {service["image"] for file in FILES for service in compose_files.load(file)["services"].values()}
        for entry in self.workloads:
            container, = entry["spec"]["template"]["spec"]["containers"]
            self.assertIn(container["image"], images)
            name = program(container["image"])
            for variable in container["env"]:
                if variable["name"].startswith("HERALD_"):
                    self.assertIn(variable["name"].removeprefix("HERALD_").lower().replace("__", "."), keys(name))
            for mount in container.get("volumeMounts", ()):
                if mount["name"] == "edges":
                    self.assertTrue((COMPOSE / "edges" / mount["subPath"]).exists())

    def test_each_password_is_among_the_secrets(self):
        text = (COMPOSE / "kubernetes/herald.yaml").read_text()
        for variable in {*re.findall(r"^            user: .* \$(HERALD_\w+)", USERS, re.MULTILINE), "HERALD_NATS_ROUTE_PASSWORD"}:
            self.assertIn(f"--from-literal={variable}=", text)

    def test_services_lead_to_pods_that_listen(self):
        pods = {entry["metadata"]["labels"]["app"]: entry["spec"]["template"]["spec"]["containers"][0] for entry in self.workloads}
        for entry in self.found:
            if entry["kind"] == "Service":
                listening = {port["name"]: port["containerPort"] for port in pods[entry["spec"]["selector"]["app"]]["ports"]}
                for port in entry["spec"]["ports"]:
                    target = port.get("targetPort", port["port"])
                    self.assertIn(target, {*listening, *listening.values()})
