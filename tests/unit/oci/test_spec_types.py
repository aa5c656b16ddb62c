"""Types of documents are known to msgspec before any thread decodes one: a race there ends the process."""

import subprocess
import sys

PROGRAM = """
import sys
from builder.oci import spec
from builder.runtime import spec as runtime
import msgspec

blob = spec.LayerBlob(spec.Descriptor("a", "b", 1, platform=spec.Platform("amd64", "linux")), "c", 0)
data = msgspec.json.encode({"a": blob})
called = []
sys.setprofile(lambda frame, event, arg: called.append(frame.f_code.co_name))
msgspec.json.decode(data, type=dict[str, spec.LayerBlob])
for kind in (spec.Manifest, spec.Index, spec.ImageConfig, runtime.Resources):
    msgspec.json.Decoder(kind)
sys.setprofile(None)
sys.exit("looked at now" if "get_class_annotations" in called else 0)
"""


def test_no_type_of_a_document_is_looked_at_when_threads_are_there() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
