#!/bin/sh
# Removes from an image what installs packages: pip with its relatives, apt, dpkg. What is installed stays written in
# dpkg's database (/var/lib/dpkg), which a scan of the image reads.
set -eu

if python3 -m pip --version > /dev/null 2>&1; then
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip uninstall --yes --root-user-action ignore setuptools wheel pip
fi
if directory=$(python3 -c 'import ensurepip; print(ensurepip.__path__[0])' 2> /dev/null); then
    rm -r "$directory"
fi
rm -rf /usr/share/python-wheels # where Debian's ensurepip has its pip

if command -v dpkg > /dev/null; then
    dpkg --purge --force-all apt
    dpkg --listfiles dpkg | grep '/s\?bin/' | xargs rm -f
fi
