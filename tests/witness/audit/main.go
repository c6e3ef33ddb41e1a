// An auditor's check with nothing of OpenExec: Go's own transparency log packages, from Debian's
// golang-golang-x-mod-dev.
//
//	audit VKEY proof FILE                   a receipt's proof
//	audit VKEY checkpoint FILE              a checkpoint's signature
//	audit VKEY consistency OLD ANSWER.json  that the log still begins with what OLD covered
//	audit VKEY evidence FILE                that the log has each record of a file of evidence
//
// Exit 0 and what was shown, or 1 and why not.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) < 4 {
		fail(errors.New("usage: audit VKEY proof|checkpoint|evidence FILE, audit VKEY consistency OLD ANSWER.json"))
	}
	verifier, err := note.NewVerifier(os.Args[1])
	fail(err)
	file, err := os.ReadFile(os.Args[3])
	fail(err)
	switch os.Args[2] {
	case "proof":
		record, index, tree := proof(file, verifier)
		fmt.Printf("%s\nrecord %d of %d in the log %s\n", record, index, tree.N, verifier.Name())
	case "checkpoint":
		tree := checkpoint(file, verifier)
		fmt.Printf("%d records in the log %s, root %s\n", tree.N, verifier.Name(), tree.Hash)
	case "consistency":
		answer, err := os.ReadFile(os.Args[4])
		fail(err)
		older, newer := checkpoint(file, verifier), consistency(file, answer, verifier)
		fmt.Printf("%d records begin with the same %d in the log %s\n", newer.N, older.N, verifier.Name())
	case "evidence":
		count, tree := evidence(file, verifier)
		fmt.Printf("%d records of evidence in the log %s, of %d\n", count, verifier.Name(), tree.N)
	default:
		fail(errors.New("proof, checkpoint, evidence or consistency"))
	}
}

// A c2sp.org/tlog-checkpoint: a signed note of name, size and root.
func checkpoint(signed []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	fail(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		fail(errors.New("a checkpoint of another log"))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	fail(err)
	root, err := tlog.ParseHash(lines[2])
	fail(err)
	return tlog.Tree{N: size, Hash: root}
}

// A c2sp.org/tlog-proof@v1: the record in extra, its index, the path, a checkpoint.
func proof(file []byte, verifier note.Verifier) (record []byte, index int64, tree tlog.Tree) {
	head, signed, found := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		fail(errors.New("no tlog-proof"))
	}
	record, err := base64.StdEncoding.DecodeString(after(lines[1], "extra "))
	fail(err)
	index, err = strconv.ParseInt(after(lines[2], "index "), 10, 64)
	fail(err)
	tree = checkpoint(signed, verifier)
	fail(tlog.CheckRecord(hashes(lines[3:]), tree.N, tree.Hash, index, tlog.RecordHash(record)))
	return record, index, tree
}

// What `openexec evidence` prints: how many records, and the checkpoint that they lead to.
func evidence(file []byte, verifier note.Verifier) (count int, tree tlog.Tree) {
	var bundle struct {
		Checkpoint string
		Records    []struct {
			Index  int64
			Path   []string
			Record string
		}
		Version int
	}
	fail(json.Unmarshal(file, &bundle))
	if bundle.Version != 1 || len(bundle.Records) == 0 {
		fail(errors.New("no evidence"))
	}
	tree = checkpoint([]byte(bundle.Checkpoint), verifier)
	for _, one := range bundle.Records {
		leaf := tlog.RecordHash([]byte(one.Record))
		fail(tlog.CheckRecord(hashes(one.Path), tree.N, tree.Hash, one.Index, leaf))
	}
	return len(bundle.Records), tree
}

// The answer of /log/consistency to an auditor who kept the older checkpoint.
func consistency(kept, file []byte, verifier note.Verifier) tlog.Tree {
	var answer struct {
		From, Size int64
		Hashes     []string
		Checkpoint string
	}
	fail(json.Unmarshal(file, &answer))
	older, newer := checkpoint(kept, verifier), checkpoint([]byte(answer.Checkpoint), verifier)
	if answer.From != older.N || answer.Size != newer.N {
		fail(errors.New("an answer to another question"))
	}
	fail(tlog.CheckTree(tlog.TreeProof(hashes(answer.Hashes)), newer.N, newer.Hash, older.N, older.Hash))
	return newer
}

func hashes(lines []string) tlog.RecordProof {
	path := tlog.RecordProof{}
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		fail(err)
		path = append(path, hash)
	}
	return path
}

func after(line, prefix string) string {
	if !strings.HasPrefix(line, prefix) {
		fail(fmt.Errorf("no line %q", prefix))
	}
	return line[len(prefix):]
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "audit:", err)
		os.Exit(1)
	}
}
