#!/usr/bin/env python3
"""seccomp.json, held to what it says: nothing in it is redundant, and nothing else is possible.

    calls.py BINARY [--only NAME]

Takes each system call away by itself, and expects the walk-through to fail; what it does not miss is
in REASONS, with the reason, and is expected not to be missed. Then a probe, in the same bundle under
the same profile, asks for every other system call, and for those that are allowed with arguments that
are not. Skipped, and said, where runc cannot run.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import bundle as bundles
import common
from bundle import HERE, Bundle
from common import Report, expect
from walk import Approver, walk

# A walk that hangs for want of a call is given up after this, or after so many times what a whole one
# takes here, if that is longer: a slow machine is no missing call. One step of it may take half.
WALK_SECONDS_MIN = 40
WALKS = 10
# Nothing else answers with it: EKEYEXPIRED.
MARK = 127
EPERM, ENOSYS = 1, 38
# What libc asks for on aarch64, and what instead on x86_64, which has both.
OF_AARCH64 = {
    "fchmodat": "chmod", "mkdirat": "mkdir", "newfstatat": "stat", "ppoll": "poll",
    "readlinkat": "readlink", "renameat": "rename", "unlinkat": "unlink",
}
# Of x86_64 alone: a register that a program of aarch64 sets by itself.
OF_X86_64 = ("arch_prctl",)
# Allowed, and not missed by the walk-through on this machine.
REASONS = {
    **{name: f"aarch64 has no `{old}`" for name, old in OF_AARCH64.items()},
    "clock_gettime": "asked only where the machine's clock cannot be read from the vDSO",
    "getrandom": "without it the standard library reads /dev/urandom, if there is one",
    "mremap": "without it a buffer that grows is copied, and is there twice meanwhile",
    "readlink": "without it the store asks for its segment's metadata",
    "rmdir": "asked only where a Unix socket is made in a directory that others may enter",
    "rt_sigprocmask": "signals that would reach a half-made thread are not sent in the test",
    "set_tid_address": "what libc remembers of the first thread is not asked for",
}
# Missed in some runs: whether the runtime's threads interrupt each other just then is chance; threads that
# cannot wait spin, which a walk may or may not take too long for; and a connection whose end cannot be
# announced is cut by its client, or is not.
BY_CHANCE = ("futex", "rt_sigreturn", "shutdown")


def without(profile, number, name):
    """The profile less one name of one rule."""
    changed = json.loads(json.dumps(profile))
    changed["syscalls"][number]["names"].remove(name)
    changed["syscalls"] = [rule for rule in changed["syscalls"] if rule["names"]]
    return changed


def walk_alone(binary, directory, profile, key, seconds, result):
    """In a process of its own, which may hang."""
    os.setpgid(0, 0)
    common.PATIENCE_S = seconds / 2
    approver = Approver.__new__(Approver)
    approver.binary, approver.key, approver.log_key, approver.public = binary, *key
    try:
        walk(Bundle(binary, directory, profile), approver)
        result.put("passed")
    except BaseException as error:  # noqa: BLE001
        result.put(f"{type(error).__name__}: {error}"[:160].replace("\n", " "))


def misses(binary, base, profile, key, seconds):
    """What the walk-through says against the profile; None if it passes."""
    directory = tempfile.mkdtemp(dir=base)
    result = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(
        target=walk_alone,
        args=(binary, os.path.join(directory, "walk"), profile, key, seconds, result),
    )
    process.start()
    process.join(seconds)
    if process.is_alive():
        # With what it has started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        said = "it hangs"
    else:
        said = "it ended without a word" if result.empty() else result.get()
    state = os.path.join(directory, "walk", "state")
    for name in os.listdir(state) if os.path.isdir(state) else ():
        bundles.end(state, name)
    shutil.rmtree(directory, ignore_errors=True)
    return None if said == "passed" else said


def minimal(report, binary, base, profile, only):
    approver = Approver(binary, base)
    key = (approver.key, approver.log_key, approver.public)
    # Once to find out how long it takes, at the worst; and once more, should it have been too long.
    began = time.monotonic()
    whole = misses(binary, base, profile, key, 10 * WALK_SECONDS_MIN)
    took = time.monotonic() - began
    whole = whole and misses(binary, base, profile, key, 10 * WALK_SECONDS_MIN)
    report.case("the walk-through under the whole profile", expect, whole is None, whole)
    seconds = max(WALK_SECONDS_MIN, WALKS * took)
    print(f"a walk takes {took:.1f} s; one that takes {seconds:.0f} s hangs", flush=True)
    cases = [
        (number, name)
        for number, rule in enumerate(profile["syscalls"]) if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"] if only in (None, name)
    ]

    def case(number, name):
        def walked():
            return misses(binary, base, without(profile, number, name), key, seconds)

        said = walked()
        if name in BY_CHANCE:
            print(f"without {name}: {said or 'not missed this time'}", flush=True)
            return
        if name in REASONS:
            # Once more, should the machine have been too busy.
            said = said and walked()
            expect(said is None, f"it is missed: {said}; it needs no entry in REASONS")
        else:
            # Once more, should it have been asked for only where threads meet otherwise.
            said = said or walked()
            expect(said is not None, "nothing misses it")
        print(f"without {name}: {said or f'not missed; {REASONS[name]}'}", flush=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [
            pool.submit(report.case, f"without {name} (rule {number})", case, number, name)
            for number, name in cases
        ]:
            done.result()
    known = {name for _, name in cases}
    if only is None:
        unknown = sorted(set(REASONS) - known)
        report.case("REASONS", expect, not unknown, f"{unknown} are not in the profile")


# What must be denied, by name, beside all the rest.
DENIED = (
    "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root", "chroot",
    "open_tree", "move_mount", "fsopen", "fsmount", "unshare", "setns", "bpf", "perf_event_open",
    "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "userfaultfd", "memfd_create", "memfd_secret", "execveat", "fork", "vfork", "kill", "tkill",
    "tgkill", "pidfd_open", "pidfd_getfd", "seccomp", "setuid", "setgid", "setgroups", "capset",
    "personality", "init_module", "finit_module", "delete_module", "kexec_load", "reboot",
    "swapon", "iopl", "ioperm", "modify_ldt", "mknod", "mknodat", "symlink", "symlinkat", "chown",
    "fchown", "lchown", "fchownat", "setxattr", "open_by_handle_at", "name_to_handle_at",
    "fanotify_init", "inotify_init1", "socketpair", "sendmsg", "recvmsg", "splice", "sendfile",
    "settimeofday", "clock_settime", "adjtimex", "sethostname", "syslog", "acct", "quotactl",
    "shmget", "msgget", "semget", "mq_open", "pkey_mprotect", "remap_file_pages", "prlimit64",
    "setrlimit", "openat2", "landlock_create_ruleset",
)
NAMESPACES = {
    "NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000,
}
# CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: a thread, as the C library makes one.
THREAD = 0x50F00
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
FAMILIES_MAX = 64
PR_SET_NAME, ARCH_SET_FS, FIONBIO = 15, 0x1002, 0x5421
PROT_READ, PROT_EXEC, MAP_PRIVATE_ANONYMOUS = 1, 4, 0x22


def numbers(header="asm/unistd.h", *options):
    """The system calls of this machine, by the kernel's own header."""
    headers = subprocess.run(
        ["cc", "-E", "-dM", *options, "-include", header, "-xc", "/dev/null"],
        check=True, capture_output=True,
    ).stdout.decode()
    lines = (line.split() for line in headers.splitlines() if line.startswith("#define __NR"))
    values = {name: number for _, name, number in (line for line in lines if len(line) == 3)}
    return {
        name.removeprefix("__NR_"): int(values.get(number, number))
        for name, number in values.items() if name.startswith("__NR_")
    }


def both_machines(profile):
    """Every name is a call of x86_64 or of aarch64, and what aarch64 lacks it has another for."""
    here = numbers()
    # What arch/arm64 defines before it includes the list that new machines share.
    there = numbers("asm-generic/unistd.h", *(f"-D__ARCH_WANT_{what}" for what in
                    ("RENAMEAT", "NEW_STAT", "SYS_CLONE3")))
    names = {name for rule in profile["syscalls"] for name in rule["names"]}
    unknown = sorted(names - set(here) - set(there))
    expect(not unknown, f"{unknown} are calls of neither")
    # `unlinkat` removes directories as well.
    replaced = {*OF_AARCH64.values(), *OF_X86_64, "open", "lstat", "rmdir"}
    lost = sorted(names - set(there) - replaced)
    expect(not lost, f"aarch64 has no {lost}, and nothing in their place")
    expect({"openat", *OF_AARCH64} <= names & set(there), "aarch64 lacks a replacement")


def forbidden_arguments(of):
    """Calls that are allowed, with arguments that are not."""
    asked = [(of["socket"], family, 1, 0) for family in range(FAMILIES_MAX)
             if family not in FAMILIES.values()]
    # The filter sees 64 bits, the kernel 32.
    asked += [(of["socket"], (1 << 32) + 16, 3, 0)]
    asked += [(of["clone"], THREAD | flag, 0, 0, 0, 0) for flag in NAMESPACES.values()]
    # A process (SIGCHLD), and what vfork does, alone and with a namespace.
    asked += [(of["clone"], flags, 0, 0, 0, 0)
              for flags in (17, 0x4111, 17 | NAMESPACES["NEWUSER"], 0)]
    asked += [(of["prctl"], option, 0, 0, 0, 0) for option in range(80) if option != PR_SET_NAME]
    asked += [(of["arch_prctl"], code, 0) for code in (0x1001, 0x1003, 0x1004, 0x1012, 0x5001)]
    asked += [(of["ioctl"], 0, request, 0)
              for request in (0x5401, 0x5412, 0x5413, 0x541B, 0x5452, 0x8912, 0x40086602)]
    for call in ("mmap", "mprotect"):
        asked += [(of[call], 0, 4096, protection, MAP_PRIVATE_ANONYMOUS, (1 << 64) - 1, 0)
                  for protection in (PROT_EXEC, PROT_EXEC | PROT_READ, 7)]
    return asked


def probe(report, binary, base, profile, more=()):
    """`more`: what this profile allows of DENIED."""
    program = os.path.join(base, "probe")
    flags = ["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]
    source = os.path.join(HERE, "probe.c")
    subprocess.run(["cc", *flags, "-Wall", "-Werror", "-o", program, source], check=True)
    # The filter's own answer, told from what the kernel says of its own accord: no other
    # difference.
    marked = json.loads(json.dumps(profile))
    marked["defaultErrnoRet"] = MARK
    of = numbers()
    allowed = {of[name] for rule in profile["syscalls"] for name in rule["names"] if name in of}
    name_of = {number: name for name, number in of.items()}

    def run(name, seccomp, *arguments):
        bundle = Bundle(binary, os.path.join(base, name), seccomp)
        bundle.add(program, "probe")
        container = bundle.container(["/probe", *arguments], {})
        code = container.process.wait(common.PATIENCE_S)
        answers = [line.split() for line in container.said().splitlines()]
        return code, [(int(number), int(errno)) for number, errno in answers]

    def sweep():
        code, answers = run("sweep", marked, "sweep", *map(str, sorted(allowed)))
        expect(code == 0, f"it ended with {code}")
        expect(len(answers) > 380, f"only {len(answers)} calls were asked for")
        # runc answers for what is newer than anything in a profile as a kernel without it does.
        newest = max(allowed)
        possible = [
            name_of.get(number, number) for number, errno in answers
            if errno != MARK and not (number > newest and errno == ENOSYS)
        ]
        expect(not possible, f"the profile lets through {possible}")
        asked = {number for number, _ in answers}
        missing = [name for name in DENIED if name not in more and of[name] not in asked]
        expect(not missing, f"{missing} were not asked for")
        print(f"{len(answers)} system calls denied, {len(allowed)} known to the profile")

    def arguments():
        asked = forbidden_arguments(of)
        texts = [":".join(map(str, call)) for call in asked]
        code, answers = run("arguments", marked, "ask", *texts)
        expect(code == 0 and len(answers) == len(asked), f"{code}, {len(answers)} answers")
        possible = [texts[i] for i, (_, errno) in enumerate(answers) if errno != MARK]
        expect(not possible, f"the profile lets through {possible}")
        print(f"{len(asked)} calls with arguments that are not allowed: denied")

    def answers_itself():
        """As it is shipped: EPERM, and for clone3 ENOSYS; what is allowed is."""
        asked = [(of["ptrace"], 0), (of["clone3"], 0, 0)]
        asked += [(of["socket"], family, 1, 0) for family in FAMILIES.values()]
        asked += [(of["getpid"],)]
        code, answers = run("itself", profile, "ask", *(":".join(map(str, call)) for call in asked))
        expect(code == 0, f"it ended with {code}")
        expect([errno for _, errno in answers] == [EPERM, ENOSYS, 0, 0, 0, 0], answers)

    def other_ways_in():
        for way in ("int80", "x32"):
            code, answers = run(way, marked, way)
            expect(code == 128 + signal.SIGSYS and not answers, f"{way}: {code}, {answers}")

    def means_something():
        """Without the profile the same probe gets through."""
        anything = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
        call = f"{of['socket']}:16:3:0"
        code, answers = run("open", anything, "ask", call, f"{of['keyctl']}:0:0:0")
        errnos = [errno for _, errno in answers]
        expect(code == 0 and errnos[0] == 0 and errnos[1] not in (EPERM, MARK), f"{code}, {answers}")

    report.case("both machines", both_machines, profile)
    for case in (sweep, arguments, answers_itself, other_ways_in, means_something):
        report.case(f"probe: {case.__name__}", case)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--only")
    options = parser.parse_args()
    base = common.scratch(on_disk=True)
    report = Report()
    binary = os.path.abspath(options.binary)
    try:
        reason = bundles.cannot_run(binary, os.path.join(base, "trial"))
        if reason:
            common.skip(reason)
        profile = bundles.profile()
        if options.only is None:
            probe(report, binary, base, profile)
        minimal(report, binary, base, profile, options.only)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
