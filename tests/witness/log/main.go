// Grows a log of 10,000 records through a running service and holds every checkpoint and proof of it
// to Go's sumdb/note and sumdb/tlog: at a hundred random sizes the checkpoint, inclusion of random
// records and consistency from every older size; at the end consistency from each to the newest, and
// every hash of every proof to the one that tlog makes itself from the records in the store's files.
//
//	log URL STORE VKEY EVIDENCE    leaves checkpoints, proofs and records in EVIDENCE for others
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	executions = 5_000 // two records each
	sizes      = 100
	proofs     = 5 // at each size
	workers    = 16
)

type seen struct {
	signed []byte
	tree   tlog.Tree
}

type proven struct {
	file   []byte
	record []byte
	index  int64
	path   tlog.RecordProof
	tree   tlog.Tree
}

var (
	url      string
	verifier note.Verifier
	checked  int
	refused  int
	random   *rand.Rand
)

func main() {
	url = os.Args[1]
	store, evidence := os.Args[2], os.Args[4]
	var err error
	verifier, err = note.NewVerifier(os.Args[3])
	must(err)
	seed := time.Now().UnixNano()
	if given := os.Getenv("WITNESS_SEED"); given != "" {
		seed, err = strconv.ParseInt(given, 10, 64)
		must(err)
	}
	fmt.Println("seed", seed)
	random = rand.New(rand.NewSource(seed))

	// The sizes are where random cuts of the executions come to lie.
	cuts := make([]int, sizes)
	for n := range cuts {
		cuts[n] = 1 + random.Intn(executions)
	}
	cuts[sizes-1] = executions
	sort.Ints(cuts)
	var checkpoints []seen
	var receipts []string
	var inclusions []proven
	for _, cut := range cuts {
		receipts = append(receipts, execute(len(receipts), cut)...)
		checkpoints = append(checkpoints, checkpoint(get("/log/checkpoint")))
		newest := checkpoints[len(checkpoints)-1]
		for n := 0; n < proofs; n++ {
			one := proof(get("/receipts/" + receipts[random.Intn(len(receipts))] + "/proof"))
			if one.tree.N > newest.tree.N {
				die("a proof of more than was committed")
			}
			inclusions = append(inclusions, one)
		}
		// The last one answered can be proven at once.
		inclusions = append(inclusions, proof(get("/receipts/"+receipts[len(receipts)-1]+"/proof")))
		older := checkpoints[random.Intn(len(checkpoints))]
		consistency(older)
	}

	// The records of the store and of its policy, then two an execution.
	records := records(store)
	newest := checkpoints[len(checkpoints)-1]
	if int64(len(records)) != newest.tree.N || newest.tree.N != 2*executions+2 {
		die("the store has %d records, the checkpoint says %d", len(records), newest.tree.N)
	}
	hashes := hashes(records)
	for _, one := range checkpoints {
		root, err := tlog.TreeHash(one.tree.N, hashes)
		must(err)
		if root != one.tree.Hash {
			die("at %d the root is %v, tlog says %v", one.tree.N, one.tree.Hash, root)
		}
		ours := consistency(one)
		theirs, err := tlog.ProveTree(newest.tree.N, one.tree.N, hashes)
		must(err)
		same(ours, theirs)
	}
	for _, one := range inclusions {
		if !bytes.Equal(records[one.index], one.record) {
			die("record %d is another in the store", one.index)
		}
		theirs, err := tlog.ProveRecord(one.tree.N, one.index, hashes)
		must(err)
		same(one.path, theirs)
	}
	leave(evidence, records, checkpoints, inclusions)
	fmt.Printf("%d records, %d checkpoints, %d proofs accepted, %d altered ones refused\n",
		len(records), len(checkpoints), checked, refused)
}

// Executes numbers first to last, several at once; gives their ids.
func execute(first, last int) []string {
	ids := make([]string, last-first)
	var group sync.WaitGroup
	next := make(chan int)
	for n := 0; n < workers; n++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := range next {
				body := fmt.Sprintf(`{"action":"echo","payload":{"n":%d},"nonce":"n%d"}`, n, n)
				answer, err := http.Post(url+"/execute", "application/json", strings.NewReader(body))
				must(err)
				var executed struct{ ID string }
				must(json.NewDecoder(answer.Body).Decode(&executed))
				answer.Body.Close()
				if answer.StatusCode != 200 || len(executed.ID) != 64 {
					die("execution %d: %s", n, answer.Status)
				}
				ids[n-first] = executed.ID
			}
		}()
	}
	for n := first; n < last; n++ {
		next <- n
	}
	close(next)
	group.Wait()
	return ids
}

func get(path string) []byte {
	answer, err := http.Get(url + path)
	must(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(err)
	if answer.StatusCode != 200 {
		die("%s: %s %s", path, answer.Status, body)
	}
	return body
}

func checkpoint(signed []byte) seen {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		die("no checkpoint: %q", opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	checked++
	if random.Intn(10) == 0 {
		altered := append([]byte(nil), signed...)
		at := random.Intn(len(opened.Text))
		altered[at] ^= 1
		_, err := note.Open(altered, note.VerifierList(verifier))
		refuse(err, "a note with byte %d altered", at)
	}
	return seen{signed, tlog.Tree{N: size, Hash: root}}
}

func proof(file []byte) proven {
	head, signed, _ := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		die("no proof: %q", file)
	}
	record, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	must(err)
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	must(err)
	path := parse(lines[3:])
	tree := checkpoint(signed).tree
	hash := tlog.RecordHash(record)
	must(tlog.CheckRecord(path, tree.N, tree.Hash, index, hash))
	checked++
	refuse(tlog.CheckRecord(path, tree.N, tree.Hash, index^1, hash), "another index")
	refuse(tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(record[1:])), "another record")
	if len(path) > 0 {
		refuse(tlog.CheckRecord(path[1:], tree.N, tree.Hash, index, hash), "a hash missing")
	}
	return proven{file, record, index, path, tree}
}

// From an older checkpoint to the newest.
func consistency(older seen) tlog.TreeProof {
	var answer struct {
		From, Size int64
		Hashes     []string
		Checkpoint string
	}
	must(json.Unmarshal(get(fmt.Sprintf("/log/consistency?from=%d", older.tree.N)), &answer))
	newer := checkpoint([]byte(answer.Checkpoint)).tree
	if answer.From != older.tree.N || answer.Size != newer.N {
		die("from %d to %d: an answer to another question", older.tree.N, newer.N)
	}
	path := tlog.TreeProof(parse(answer.Hashes))
	must(tlog.CheckTree(path, newer.N, newer.Hash, older.tree.N, older.tree.Hash))
	checked++
	if older.tree.N < newer.N {
		other := older.tree.Hash
		other[0] ^= 1
		refuse(tlog.CheckTree(path, newer.N, newer.Hash, older.tree.N, other), "another older root")
		refuse(tlog.CheckTree(path[1:], newer.N, newer.Hash, older.tree.N, older.tree.Hash), "a hash missing")
	}
	return path
}

func parse(lines []string) tlog.RecordProof {
	path := tlog.RecordProof{}
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		must(err)
		path = append(path, hash)
	}
	return path
}

// The record lines of the store's segments: neither blank nor segment nor commit lines.
func records(store string) [][]byte {
	names, err := filepath.Glob(store + "/*.jsonl")
	must(err)
	sort.Strings(names)
	var records [][]byte
	for _, name := range names {
		file, err := os.Open(name)
		must(err)
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var line struct{ Kind string }
			if len(lines.Bytes()) == 0 {
				continue
			}
			must(json.Unmarshal(lines.Bytes(), &line))
			if line.Kind != "segment" && line.Kind != "commit" {
				records = append(records, append([]byte(nil), lines.Bytes()...))
			}
		}
		must(lines.Err())
		file.Close()
	}
	return records
}

// The hashes that tlog stores for these records.
func hashes(records [][]byte) tlog.HashReader {
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for n, index := range indexes {
			found[n] = stored[index]
		}
		return found, nil
	})
	for n, record := range records {
		more, err := tlog.StoredHashes(int64(n), record, read)
		must(err)
		stored = append(stored, more...)
	}
	return read
}

// For whoever checks the same with other software.
func leave(directory string, records [][]byte, checkpoints []seen, inclusions []proven) {
	must(os.MkdirAll(directory, 0o755))
	write := func(name string, bytes []byte) {
		must(os.WriteFile(filepath.Join(directory, name), bytes, 0o644))
	}
	write("records", append(bytes.Join(records, []byte("\n")), '\n'))
	for _, one := range checkpoints {
		write(fmt.Sprintf("checkpoint-%d", one.tree.N), one.signed)
	}
	for _, one := range inclusions {
		write(fmt.Sprintf("proof-%d-%d.tlog-proof", one.index, one.tree.N), one.file)
	}
}

func same(ours, theirs interface{}) {
	a, b := fmt.Sprint(ours), fmt.Sprint(theirs)
	if a != b || reflect.ValueOf(ours).Len() != reflect.ValueOf(theirs).Len() {
		die("our proof is %s, tlog's %s", a, b)
	}
}

func refuse(err error, what string, arguments ...interface{}) {
	if err == nil {
		die("accepted: "+what, arguments...)
	}
	refused++
}

func must(err error) {
	if err != nil {
		die("%v", err)
	}
}

func die(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, "log: "+format+"\n", arguments...)
	os.Exit(1)
}
