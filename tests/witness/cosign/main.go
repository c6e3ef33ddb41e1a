// A witness (c2sp.org/tlog-witness) with nothing of OpenExec: Go's own signed notes and transparency
// log packages, from Debian's golang-golang-x-mod-dev. It forgets everything at its end.
//
//	cosign ADDRESS NAME LOG-VKEY    prints its vkey, then answers POST /add-checkpoint
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The signature type of c2sp.org/tlog-cosignature, version 1.
const cosignature = 0x04

type witness struct {
	sync.Mutex
	name   string
	id     []byte
	key    ed25519.PrivateKey
	origin note.Verifier
	seen   tlog.Tree
}

func main() {
	origin, err := note.NewVerifier(os.Args[3])
	fail(err)
	public, private, err := ed25519.GenerateKey(nil)
	fail(err)
	name := os.Args[2]
	hashed := sha256.Sum256(append([]byte(name+"\n\x04"), public...))
	witness := &witness{name: name, id: hashed[:4], key: private, origin: origin}
	listener, err := net.Listen("tcp", os.Args[1])
	fail(err)
	key := base64.StdEncoding.EncodeToString(append([]byte{cosignature}, public...))
	fmt.Printf("%s+%x+%s\n", name, hashed[:4], key)
	http.HandleFunc("/add-checkpoint", witness.add)
	fail(http.Serve(listener, nil))
}

func (w *witness) add(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 1<<20))
	if err != nil || request.Method != http.MethodPost {
		answer.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Lock()
	defer w.Unlock()
	status, line := w.judge(body)
	answer.WriteHeader(status)
	io.WriteString(answer, line)
}

// The status and the body that the specification has for it.
func (w *witness) judge(body []byte) (int, string) {
	head, signed, found := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if !found || err != nil || !strings.HasPrefix(lines[0], "old ") {
		return http.StatusBadRequest, "no request\n"
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return http.StatusBadRequest, "no hash\n"
		}
		proof = append(proof, hash)
	}
	opened, err := note.Open(signed, note.VerifierList(w.origin))
	if err != nil {
		return http.StatusForbidden, err.Error() + "\n"
	}
	checkpoint := strings.Split(opened.Text, "\n")
	if len(checkpoint) < 4 || checkpoint[0] != w.origin.Name() {
		return http.StatusNotFound, "another log\n"
	}
	size, err := strconv.ParseInt(checkpoint[1], 10, 64)
	if err != nil {
		return http.StatusBadRequest, "no size\n"
	}
	root, err := tlog.ParseHash(checkpoint[2])
	if err != nil || old > size {
		return http.StatusBadRequest, "no checkpoint\n"
	}
	if old != w.seen.N {
		return http.StatusConflict, fmt.Sprintf("%d\n", w.seen.N)
	}
	if old == size && root != w.seen.Hash {
		return http.StatusConflict, fmt.Sprintf("%d\n", w.seen.N)
	}
	if old == 0 || old == size {
		if len(proof) > 0 {
			return http.StatusUnprocessableEntity, "a proof of nothing\n"
		}
	} else if err := tlog.CheckTree(proof, size, root, old, w.seen.Hash); err != nil {
		return http.StatusUnprocessableEntity, err.Error() + "\n"
	}
	w.seen = tlog.Tree{N: size, Hash: root}
	now := uint64(time.Now().Unix())
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", now, opened.Text)
	bytes := binary.BigEndian.AppendUint64(append([]byte{}, w.id...), now)
	bytes = append(bytes, ed25519.Sign(w.key, []byte(message))...)
	return http.StatusOK, fmt.Sprintf("\u2014 %s %s\n", w.name, base64.StdEncoding.EncodeToString(bytes))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cosign:", err)
		os.Exit(1)
	}
}
