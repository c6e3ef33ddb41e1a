// Go's net/http with a reader as its body: POSTs standard input to a URL, prints status and body.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	// A bare io.Reader, of which nobody knows the length.
	body := struct{ io.Reader }{os.Stdin}
	answer, err := http.Post(os.Args[1], "application/json", body)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d\n%s\n", answer.StatusCode, text)
}
