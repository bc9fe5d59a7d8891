# Sourced by the scripts beside it: makes .venv if there is none, and installs the project into it when its
# requirements have changed. Usage: . scripts/install.sh [EXTRAS], from the project's root.
if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
fi
stamp=".venv/installed-${1:-run}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ scripts/constraints.txt -nt "$stamp" ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e ".${1:+[$1]}"
    touch "$stamp"
fi
