"""Scenarios of tests/integration/api that the OpenAPI document generates.

`cloud-hypervisor --openapi` prints it. Each request is made in each state: its status, the body of its answer and
the state after it must be what the document and the contract say. Each field of each body is sent with values that
the document does not allow.
"""

import copy
import json
import os
import subprocess

import jsonschema

from apivm import GUEST, PROGRAM, ROOT, Vm, lasting, seen

MIB = 1 << 20
STATES = ["none", "Created", "Running", "Paused"]

# The contract's table: the status in each of STATES.
CONTRACT = """
vmm.ping         200 200 200 200    vm.add-disk               404 204 200 200
vmm.shutdown     200 200 200 200    vm.add-net                404 204 200 200
vm.create        204 409 409 409    vm.add-fs                 404 204 200 200
vm.boot          404 204 409 409    vm.add-vsock              404 204 200 200
vm.info          404 200 200 200    vm.remove-device          404 204 204 204
vm.counters      404 409 200 200    vm.add-pmem               404 501 501 501
vm.events        200 200 200 200    vm.add-device             404 501 501 501
vm.pause         404 409 204 409    vm.add-user-device        404 501 501 501
vm.resume        404 409 409 204    vm.add-vdpa               404 501 501 501
vm.shutdown      404 409 204 204    vm.add-generic-vhost-user 404 501 501 501
vm.delete        204 204 204 204    vm.snapshot               404 409 501 501
vm.reboot        404 409 204 204    vm.coredump               404 409 501 501
vm.power-button  404 409 204 204    vm.send-migration         404 409 501 501
vm.nmi           404 409 204 204    vm.restore                501 409 409 409
vmm.nmi          404 409 204 204    vm.receive-migration      501 409 409 409
vm.resize        404 204 204 204    vm.resize-zone            404 204 501 501
vm.resize-disk   404 409 204 204
"""
GETS = {"vmm.ping", "vm.info", "vm.counters", "vm.events"}
# The state after a request that succeeds, where it is another than before it.
NEXT = {"vm.create": "Created", "vm.boot": "Running", "vm.pause": "Paused", "vm.resume": "Running",
        "vm.shutdown": "Created", "vm.reboot": "Running", "vm.delete": "none"}
# What an error says of a state, in words that programs compare.
SAYS = {"none": "VM is not created", "Created": "VM is not running"}


# --- the document ---------------------------------------------------------------------------

def document():
    ran = subprocess.run(["cloud-hypervisor", "--openapi"], executable=PROGRAM, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, check=True, timeout=10)
    return json.loads(ran.stdout)


def resolve(doc, node):
    while "$ref" in node:
        found = doc
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node


def json_schema(node, closed):
    """A schema of OpenAPI's form as one of JSON Schema, draft 4. closed: objects have no other keys."""
    if not isinstance(node, dict):
        return node
    out = {key: value for key, value in node.items() if key not in ("default", "nullable")}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = json_schema(out[key], closed)
    if "allOf" in out:
        out["allOf"] = [json_schema(n, closed) for n in out["allOf"]]
    if "properties" in out:
        out["properties"] = {key: json_schema(n, closed) for key, n in out["properties"].items()}
        if closed:
            out.setdefault("additionalProperties", False)
    return {"anyOf": [out, {"type": "null"}]} if node.get("nullable") else out


class Schemas:
    """Says what is wrong with values, by the document's schemas."""

    def __init__(self, doc):
        self.requests, self.answers = (
            {name: json_schema(schema, closed) for name, schema in doc["components"]["schemas"].items()}
            for closed in (False, True))

    def wrong(self, schema, value, answer=False):
        """Returns what is wrong with a value, as a list of texts."""
        whole = {"allOf": [json_schema(schema, answer)],
                 "components": {"schemas": self.answers if answer else self.requests}}
        return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}"
                for e in jsonschema.Draft4Validator(whole).iter_errors(value)]


def operations(doc):
    """Yields each request: its name, method and what the document says of it."""
    for path, methods in doc["paths"].items():
        for method, operation in methods.items():
            yield path.removeprefix("/"), method.upper(), operation


def references(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def shape(r):
    """The document itself."""
    doc = document()
    r.ok(doc["openapi"] == "3.0.3" and doc["info"]["title"] and doc["info"]["version"], "it is OpenAPI 3.0.3")
    broken = []
    for reference in references(doc):
        try:
            resolve(doc, {"$ref": reference})
        except KeyError:
            broken.append(reference)
    r.ok(not broken, "every reference leads to something", broken)
    for name, schema in Schemas(doc).answers.items():
        jsonschema.Draft4Validator.check_schema(schema)
        r.ok(schema.get("type") or schema.get("allOf"), f"{name}: a schema with a type")
    ids = [operation["operationId"] for _, _, operation in operations(doc)]
    r.ok(len(set(ids)) == len(ids) and all(i.isidentifier() for i in ids), "each operation has a name of its own", ids)
    for name, method, operation in operations(doc):
        codes = operation["responses"]
        r.ok(operation["summary"] and method == ("GET" if name in GETS else "PUT") and
             all(resolve(doc, answer)["description"] for answer in codes.values()), f"{name}: what it does")
        r.ok({str(code) for code in operation["x-states"].values()} <= codes.keys(), f"{name}: all states' statuses",
             operation)
    words = CONTRACT.split()
    want = {words[i]: [int(code) for code in words[i + 1:i + 5]] for i in range(0, len(words), 5)}
    have = {name: [operation["x-states"][s] for s in STATES] for name, _, operation in operations(doc)}
    r.ok(have == want, "the statuses are those of the contract", set(map(str, want.items())) ^ set(map(str, have.items())))
    built = os.path.join(ROOT, "build/openapi.json")
    subprocess.run(["make", "-s", "-C", ROOT, built.removeprefix(ROOT + "/")], stdout=subprocess.DEVNULL, check=True)
    with open(built) as f:
        r.ok(json.load(f) == doc, "make's file is the same")


# --- every request in every state -----------------------------------------------------------------

def bodies(vm):
    """A body for each schema of a request's body."""
    return {"VmConfig": config(vm), "VmResize": {"desired_balloon": 8 * MIB},
            "VmResizeDisk": {"id": "first", "desired_size": 2 * MIB}, "VmResizeZone": {"id": "z", "desired_ram": 64 * MIB},
            "DiskConfig": {"path": vm.path("more")}, "NetConfig": {"user": {}},
            "FsConfig": {"tag": "t", "socket": vm.path("fs")}, "VsockConfig": {"cid": 9, "socket": vm.path("vsock")},
            "VmRemoveDevice": {"id": "first"}}


def config(vm):
    for name in "disk", "more":
        with open(vm.path(name), "ab") as f:
            f.truncate(MIB)
    return vm.config(memory={"size": 0, "shared": True, "zones": [{"id": "z", "size": 64 * MIB}]}, balloon={"size": 0},
                     disks=[{"path": vm.path("disk"), "id": "first"}], net=[{"user": {}, "mtu": 1400}],
                     cpus={"boot_vcpus": 2, "affinity": [{"vcpu": 0, "host_cpus": [0]}]},
                     platform={"serial_number": "s", "oem_strings": ["a", "b"]}, console={"mode": "Pty"})


def bring(vm, state):
    """From any state to this one, with a machine of its own. Returns the answers that went wrong."""
    steps = [("vm.delete", None), ("vm.create", config(vm)), ("vm.boot", None), ("vm.pause", None)]
    answers = [vm.put(name, body) for name, body in steps[:1 + STATES.index(state)]]
    return [answer for answer in answers if answer.status != 204]


def state_of(vm):
    state = vm.state()
    return "none" if state == 404 else state


def follows(r, doc, schemas, what, operation, answer):
    """An answer is one of those in the document."""
    known = operation["responses"].get(str(answer.status))
    if not r.ok(known is not None, f"{what}: {answer.status} is in the document", answer):
        return
    content = resolve(doc, known).get("content")
    if content is None:
        r.ok(not answer.body, f"{what}: {answer.status} without a body", answer)
    else:
        wrong = schemas.wrong(content["application/json"]["schema"], answer.json, True)
        r.ok(not wrong, f"{what}: the body of {answer.status} fits its schema", wrong)


def watch(r, doc, schemas, what, vm):
    """vm.events: from now on each event, until the process has ended."""
    schema = resolve(doc, doc["paths"]["/vm.events"]["get"]["responses"]["200"])["content"]["application/x-ndjson"]["schema"]
    conn = vm.connect()
    conn.send(b"GET /api/v1/vm.events HTTP/1.1\r\n\r\n")
    data = conn.more()
    vm.put("vmm.shutdown")
    try:
        while True:
            data += conn.more()
    except (EOFError, ConnectionResetError):
        pass
    vm.ends()
    head, _, body = data.partition(b"\r\n\r\n")
    events = [json.loads(line) for line in body.splitlines()]
    wrong = [text for event in events for text in schemas.wrong(schema, event, True)]
    r.ok(head.startswith(b"HTTP/1.1 200 \r\n") and events and not wrong, f"{what}: events that fit their schema", data, wrong)


def matrix(r):
    """Each request in each state."""
    doc = document()
    schemas = Schemas(doc)
    for state in STATES:
        vm = Vm()
        try:
            for name, method, operation in operations(doc):
                what, code = f"{name}, {state}", operation["x-states"][state]
                if vm.process.poll() is not None:
                    vm.__exit__()
                    vm = Vm()
                wrong = bring(vm, state)
                if wrong or state_of(vm) != state:
                    r.ok(False, f"{what}: comes to this state", wrong)
                    continue
                if name == "vm.events":
                    watch(r, doc, schemas, what, vm)
                    continue
                one_request(r, doc, schemas, vm, what, name, method, operation, state, code)
        finally:
            vm.__exit__()


def one_request(r, doc, schemas, vm, what, name, method, operation, state, code):
    body = None
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = bodies(vm)[schema["$ref"].split("/")[-1]] if schema else {}
        wrong = schemas.wrong(schema, body)
        r.ok(not wrong, f"{what}: the request fits its schema", wrong)
    answer = vm.call(method, name, body)
    if name == "vm.add-fs" and code == 200:
        code = 500  # the host has no daemon at its socket; tests/integration/apiguest has one
    r.ok(answer.status == code, f"{what}: {code}", answer)
    follows(r, doc, schemas, what, operation, answer)
    if code in (404, 409) and state in SAYS and name not in ("vm.restore", "vm.receive-migration", "vm.create"):
        r.ok(SAYS[state] in answer.json, f"{what}: says \"{SAYS[state]}\"", answer)
    if name == "vmm.shutdown":
        r.ok(vm.ends() == 0, f"{what}: the process ends with status 0")
        return
    after = NEXT.get(name, state) if code < 400 else state
    r.ok(state_of(vm) == after, f"{what}: then {after}", vm.state())


# --- requests that the document does not allow -------------------------------------------------------

def wrong_values(schema):
    """Yields values that do not fit a property's schema, each with a name."""
    kind = schema.get("type", "object" if "allOf" in schema else None)
    other = {"integer": "text", "boolean": "text", "string": 7, "array": "text", "object": "text"}
    if kind:
        yield "another type", other[kind]
    if kind == "integer":
        yield "a fraction", 1.5
        yield "less than the least", schema["minimum"] - 1
        if "maximum" in schema and schema["maximum"] < 2**63 - 1:
            yield "more than the most", schema["maximum"] + 1
    if "enum" in schema:
        yield "no choice", "Nothing"
    if kind == "string" and "enum" not in schema:
        if schema.get("maxLength", 0):
            yield "too long", "x" * (schema["maxLength"] + 1)
        if schema.get("minLength", 0):
            yield "too short", "x" * (schema["minLength"] - 1)
    # The numbers in fds mean nothing here, so their list is ignored.
    if kind == "array" and "open taps" not in schema["description"] and "maxItems" in schema and schema["maxItems"] < 1000:
        yield "too many", [{} if "$ref" in schema["items"] else "x"] * (schema["maxItems"] + 1)


def places(doc, name, path=(), depth=0):
    """Yields each property below a schema: the path to it and its schema. Lists have one item."""
    for key, schema in doc["components"]["schemas"][name]["properties"].items():
        yield path + (key,), schema
        inside = schema.get("allOf", [{}])[0].get("$ref") or schema.get("items", {}).get("$ref")
        if inside and depth < 3:
            item = (0,) if schema.get("type") == "array" else ()
            yield from places(doc, inside.split("/")[-1], path + (key,) + item, depth + 1)


def with_value(body, path, value):
    """A copy of the body with a value at the path."""
    body = copy.deepcopy(body)
    at = body
    for key, following in zip(path, path[1:]):
        if isinstance(at, list):
            while len(at) <= key:
                at.append({})
        elif not isinstance(at.get(key), (dict, list)):
            at[key] = [] if following == 0 else {}
        at = at[key]
    if isinstance(at, list) and not at:
        at.append({})
    at[path[-1]] = value
    return body


def forbidden(r):
    """Each field of each body with values that its schema does not allow: 400, and nothing has changed."""
    doc = document()
    schemas = Schemas(doc)
    with Vm() as vm:
        for name, method, operation in operations(doc):
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if method != "PUT" or schema == {} or name == "vmm.shutdown":
                continue
            state = "none" if name == "vm.create" else "Running" if name == "vm.resize-disk" else "Created"
            wrong = bring(vm, state)
            r.ok(not wrong, f"{name}: comes to {state}", wrong)
            before = lasting(vm.get("vm.info").json)
            conn = vm.connect()
            if schema is None:
                answer = conn.call(method, name, {"a": 1})
                r.ok(answer.status in (400, operation["x-states"][state]) and answer.status >= 400,
                     f"{name}: no body belongs there", answer)
                continue
            object_name = schema["$ref"].split("/")[-1]
            good, count, bad = bodies(vm)[object_name], 0, []
            for path, inside in places(doc, object_name):
                for what, value in wrong_values(inside):
                    body = with_value(good, path, value)
                    count += 1
                    answer = conn.call(method, name, body)
                    follows_document = str(answer.status) in operation["responses"]
                    if not schemas.wrong(schema, body) or answer.status != 400 or not follows_document:
                        bad.append(f"{'.'.join(map(str, path))}, {what}: {json.dumps(value)[:60]}: {answer}")
                        if answer.status < 400:
                            bring(vm, state)
            r.ok(not bad, f"{name}: {count} values that the document does not allow: 400", *bad[:20])
            after = lasting(vm.get("vm.info").json)
            r.ok(before == after, f"{name}: vm.info is as it was", before, after)


def defaults(r):
    """vm.info of a VM of which nothing is said has the defaults of the document."""
    doc = document()
    schemas = doc["components"]["schemas"]
    with Vm() as vm:
        vm.put("vm.create", {"payload": {"kernel": GUEST}})
        have = vm.get("vm.info").json["config"]
        r.ok(not Schemas(doc).wrong({"$ref": "#/components/schemas/VmConfig"}, have, True), "it fits its schema")
        for key, schema in schemas["VmConfig"]["properties"].items():
            if "default" not in schema:
                continue
            inside = schema.get("allOf", [{}])[0].get("$ref")
            if not inside:
                r.ok(have.get(key) == schema["default"], f"{key}: {schema['default']}", have.get(key))
                continue
            for name, field in schemas[inside.split("/")[-1]]["properties"].items():
                if "default" in field and "allOf" not in field:
                    value = have.get(key, {}).get(name)
                    r.ok(value == field["default"], f"{key}.{name}: {field['default']}", value)


def all_answers(r):
    """Every answer of all scenarios is one of those in the document. Not a scenario: it comes after them."""
    doc = document()
    schemas = Schemas(doc)
    known = {(method, name): operation for name, method, operation in operations(doc)}
    answers = [a for a in seen() if a[:2] in known and a[1] != "vm.events"]
    wrong = []
    for method, name, status, body in answers:
        answer = known[method, name]["responses"].get(str(status))
        if not answer:
            # What is no request, or too much, the server answers before it looks at the endpoint.
            wrong += [f"{name}: {status} {body[:200]!r}"] if status not in (400, 413, 503) else []
            continue
        content = resolve(doc, answer).get("content")
        if not content:
            wrong += [f"{name}: {status} has a body"] if body else []
            continue
        wrong += [f"{name}: {status}: {text}" for text in
                  schemas.wrong(content["application/json"]["schema"], json.loads(body), True)]
    r.ok(not wrong, f"{len(answers)} different answers are in the OpenAPI document", "\n".join(wrong[:20]))


SCENARIOS = {"openapi": shape, "matrix": matrix, "forbidden": forbidden, "defaults": defaults}
