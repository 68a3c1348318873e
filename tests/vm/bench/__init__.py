# SPDX-License-Identifier: MIT
"""The virtual-machine bench: what vm.py is made of, in the order of a run.

lane       what a lane file says
image      the drives' contents
initramfs  the guest's root file system
machine    QEMU's command line, the process, its monitor
control    what guest tests may ask the host to do
verdict    TAP and kernel log -> results
"""
