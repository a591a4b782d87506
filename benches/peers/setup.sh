#!/bin/sh
# Installs the peers into a folder: a Python environment and, where its library is installed, the program for Armadillo.
#   setup.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: setup.sh FOLDER}
mkdir -p "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
if ! ${CXX:-g++} -std=c++17 -O3 -march=native -DNDEBUG -DARMA_NO_DEBUG -fopenmp "$here/armadillo.cpp" \
    -o "$folder/armadillo" -larmadillo 2>"$folder/armadillo.log"; then
    echo "Armadillo is left out: install libarmadillo-dev and run this again (see $folder/armadillo.log)."
fi
