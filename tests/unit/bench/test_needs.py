"""What commands are known to read of a project's files, and what is not known."""

from __future__ import annotations

import pytest

from builder.bench.needs import further, objection, of_shell

READS = {
    "pip install -r requirements.txt": ["requirements.txt"],
    "pip3 install --no-cache-dir --requirement=deps/prod.txt -c pins.txt": ["deps/prod.txt", "pins.txt"],
    "python3 -m pip install -U pip && python -m pip install -rrequirements.txt": ["requirements.txt"],
    "uv pip install --system -r requirements.txt": ["requirements.txt"],
    "PIP_NO_INPUT=1 pip install --index-url https://x/simple flask": [],
    "pip install 'flask>=2' gunicorn==20.1": [],
    "npm ci": ["package.json", "package-lock.json"],
    "npm ci --omit=dev && npm cache clean --force": ["package.json", "package-lock.json"],
    "npm install": ["package.json"],
    "npm install -g pnpm@8": [],
    "yarn install --frozen-lockfile": ["package.json"],
    "corepack enable && pnpm install --frozen-lockfile": ["package.json"],
    "go mod download": ["go.mod"],
    "go install example.org/tool@v1": [],
    "bundle config set without test; bundle install": ["Gemfile"],
    "composer install --no-dev --no-scripts --no-autoloader": ["composer.json"],
    "poetry install --no-root --only main": ["pyproject.toml"],
    "apt-get update && apt-get install -y --no-install-recommends gcc && rm -rf /var/lib/apt/lists/*": [],
    "apk add --no-cache --virtual .build-deps gcc 2>/dev/null": [],
    "set -eux; apt-get update >/dev/null 2>&1": [],
    "useradd -m web": [],
    "true": [],
}
UNKNOWN = [
    "make", "./configure", "python setup.py install", "pip install .", "pip install -e .",
    "pip install ./x.whl", "pip install -r $REQUIREMENTS", "pip install -r requirements.txt && make",
    "npm run build", "npm ci || true", "npm install ./local", "npm install left-pad", "npm ci --prefix web",
    "cat x | sh", "pip install $(cat deps)", "pip install `cat deps`", "pip install flask>=2",
    "apt-get install ./local.deb", "dnf install /tmp/x.rpm", "rm -rf /app/x", "rm -rf /var/cache/../../app",
    "poetry install", "composer install", "cd web && npm ci", "go build ./...", "yarn build",
    "echo 'no end", "(npm ci)", "echo x > /app/x", "sh -c 'npm ci'", "bundle exec rake",
]  # fmt: skip


@pytest.mark.parametrize("command", READS)
def test_what_is_known_to_be_read(command: str) -> None:
    found = of_shell(command)

    assert found is not None
    assert list(found.required) == READS[command]


@pytest.mark.parametrize("command", UNKNOWN)
def test_what_may_read_anything(command: str) -> None:
    assert of_shell(command) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("package.json", '{"scripts": {"postinstall": "node x"}}', "runs at install (postinstall)"),
        ("package.json", '{"scripts": {"build": "x"}, "dependencies": {"a": "^1"}}', ""),
        ("package.json", '{"workspaces": ["a"]}', "workspaces"),
        ("package.json", '{"dependencies": {"a": "file:../a"}}', "from the project itself"),
        ("package.json", "{", "cannot be read"),
        ("package.json", "[]", "cannot be read"),
        ("a/requirements.txt", "flask\n-e ./lib\n", "from the project itself (-e ./lib)"),
        ("requirements.txt", "lib @ file:///app/lib\n", "from the project itself"),
        ("requirements.txt", "# -e .\nflask\n", ""),
        ("Gemfile", "gemspec\n", "gemspec"),
        ("go.mod", "replace a => ../a\n", "refers to files"),
        ("pyproject.toml", 'x = { path = "../x" }', "refers to files"),
        ("Cargo.toml", "anything", ""),
    ],
)  # fmt: skip
def test_what_a_manifest_says_against_it(name: str, text: str, said: str) -> None:
    found = objection(name, text)

    assert said in found
    assert bool(said) == bool(found)


def test_requirements_lead_to_further_ones_beside_them() -> None:
    text = "flask\n-r more.txt\n--constraint=../pins.txt\n  -c  here.txt\n"

    assert further("/app/deps/all.txt", text) == ["/app/deps/more.txt", "/app/pins.txt", "/app/deps/here.txt"]
    assert further("/app/package.json", text) == []
