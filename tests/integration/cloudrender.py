"""What cloud-init makes of a seed's documents: reads a list of [KIND, text in base64], prints a list of results.

PYTHONPATH leads to a cloud-init (tools/fetch-cloudinit). For the kind "render", a network-config, the result is
{renderer: {file: text}}; for "user-data" (and vendor-data), "meta-data" and "network-config" it is whether
cloud-init takes the document, or ignores it. The machine's own cards are hidden from cloud-init.
"""
import base64
import json
import logging
import os
import sys
import tempfile
from unittest import mock

import yaml

for module in ("requests", "requests.exceptions", "requests.adapters", "jinja2", "jsonschema", "jsonpatch", "oauthlib", "oauthlib.oauth1"):
    try:
        __import__(module)
    except ImportError:  # cloud-init imports them; nothing here uses them
        sys.modules[module] = mock.MagicMock()
from cloudinit import handlers, net, user_data, util
from cloudinit.net import eni, netplan, network_manager, network_state, networkd, sysconfig

RENDERERS = {"eni": eni, "netplan": netplan, "network-manager": network_manager, "networkd": networkd,
             "sysconfig": sysconfig, "sysconfig-suse": sysconfig}
TAKEN = set(handlers.INCLUSION_TYPES_MAP.values()) | {"text/cloud-config"}


def config_of(name):
    from cloudinit.distros import opensuse, rhel
    if name == "netplan":
        return {"netplan_path": "etc/netplan/50-cloud-init.yaml"}
    if name == "sysconfig-suse":
        return dict(opensuse.Distro.renderer_configs["sysconfig"], flavor="suse")
    return dict(rhel.Distro.renderer_configs["sysconfig"]) if name == "sysconfig" else {}


def render(data):
    out, document = {}, util.load_yaml(data)
    for name, module in RENDERERS.items():
        renderer = module.Renderer(config_of(name))
        state = network_state.parse_net_config_data(document, renderer=renderer)
        with tempfile.TemporaryDirectory() as target:
            renderer.render_network_state(state, target=target)
            out[name] = {}
            for base, _, files in os.walk(target):
                for path in (os.path.join(base, file) for file in files):
                    with open(path) as f:
                        out[name][os.path.relpath(path, target)] = f.read()
    return out


def loaded(text):
    """As util.load_yaml, which does not tell an empty document from a bad one."""
    try:
        out = yaml.safe_load(util.decode_binary(text))
    except (yaml.YAMLError, ValueError):
        return None
    return {} if out is None else out if isinstance(out, dict) else None


def takes_data(data):
    """The parts that cloud-init makes of user-data; a template counts if what is expanded from it does."""
    class Here(user_data.UserDataProcessor):
        def _do_include(self, content, append_msg):
            append_msg.attach(user_data.convert_string(b"included", "text/x-shellscript"))
    parts = [p for p in Here(None).process(data).walk() if not p.is_multipart()]
    for part in parts:
        kind, body = part.get_content_type(), util.fully_decoded_payload(part)
        if kind == "text/jinja2":
            rest = util.decode_binary(body).lstrip().partition("\n")[2].replace("{{ v1 }}", "1")
            if not rest.strip() or not takes_data(rest.encode()):
                return False
        elif kind not in TAKEN:
            return False
        elif kind == "text/cloud-config" and loaded(body) is None:
            return False
    return any(util.fully_decoded_payload(p).strip() for p in parts)


def takes(kind, data):
    try:
        if kind == "user-data":
            return takes_data(data)
        document = loaded(data)
        if kind == "meta-data":
            return document is not None
        if not document:
            return False
        document = document.get("network", document)
        return document == {"config": "disabled"} or bool(network_state.parse_net_config_data(document))
    except (RuntimeError, UnicodeDecodeError):
        return False


def main():
    logging.disable(logging.CRITICAL)
    for module in (net, network_state):
        for hidden in ("get_interfaces_by_mac", "find_interface_name_from_mac"):
            if hasattr(module, hidden):
                setattr(module, hidden, (lambda *a: {}) if "interfaces" in hidden else (lambda *a: None))
    asked = json.load(sys.stdin)
    json.dump([render(base64.b64decode(text)) if kind == "render" else takes(kind, base64.b64decode(text)) for kind, text in asked],
              sys.stdout, indent=1)


main()
