// A stranger's look at a log of ours: everything that decides here is filippo.io/torchwood and
// golang.org/x/mod/sumdb, which know the C2SP formats and nothing of this project.
//
//	stranger -url https://host/log -ca root.pem -policy FILE [-cert svid.pem] [-at-least N]
//
// Checks the checkpoint under the policy, every entry against the tree, and the proof stapled into the
// certificate. Prints one JSON object.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

var proofOID = asn1.ObjectIdentifier{2, 25, 1596203714}

type report struct {
	Origin  string `json:"origin"`
	Size    int64  `json:"size"`
	Entries int64  `json:"entries"`         // read, hashed and found under the root
	Signers int    `json:"signers"`         // lines of the checkpoint that verified
	Proven  *int64 `json:"proven,omitempty"` // index of the certificate
}

func main() {
	url := flag.String("url", "", "the log")
	ca := flag.String("ca", "", "PEM that the server's certificate is verified with")
	policyFile := flag.String("policy", "", "log and witnesses, as C2SP tlog-policy has them")
	cert := flag.String("cert", "", "a certificate with a stapled proof, PEM")
	flag.Parse()
	r, err := look(*url, *ca, *policyFile, *cert)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stranger:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

func look(url, ca, policyFile, cert string) (*report, error) {
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return nil, err
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("the policy: %w", err)
	}
	hc, err := httpClient(ca)
	if err != nil {
		return nil, err
	}
	note, err := get(hc, url+"/checkpoint")
	if err != nil {
		return nil, err
	}
	checkpoint, opened, err := torchwood.VerifyCheckpoint(note, policy)
	if err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	fetcher, err := torchwood.NewTileFetcher(url, torchwood.WithHTTPClient(hc))
	if err != nil {
		return nil, err
	}
	client, err := torchwood.NewClient(fetcher)
	if err != nil {
		return nil, err
	}
	r := &report{Origin: checkpoint.Origin, Size: checkpoint.N, Signers: len(opened.Sigs)}
	for range client.AllEntries(context.Background(), checkpoint.Tree, 0) {
		r.Entries++
	}
	if err := client.Err(); err != nil {
		return nil, fmt.Errorf("entry %d: %w", r.Entries, err)
	}
	if cert != "" {
		if r.Proven, err = stapled(client, checkpoint.Tree, policy, cert); err != nil {
			return nil, fmt.Errorf("the certificate: %w", err)
		}
	}
	return r, nil
}

// The proof in the certificate, for the entry that the log has at the certificate's serial.
func stapled(client *torchwood.Client, tree tlog.Tree, policy torchwood.Policy, file string) (*int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(proofOID) {
			continue
		}
		index := c.SerialNumber.Int64() & (1<<48 - 1)
		entry, _, err := client.Entry(context.Background(), tree, index)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(ext.Value), "\nindex "+strconv.FormatInt(index, 10)+"\n") {
			return nil, fmt.Errorf("its proof is not for entry %d", index)
		}
		return &index, torchwood.VerifyProof(policy, tlog.RecordHash(entry), proofText(ext.Value))
	}
	return nil, errors.New("no stapled proof")
}

// The extension's value is the proof's text, in an OCTET STRING of its own where there is one.
func proofText(value []byte) []byte {
	var inner []byte
	if rest, err := asn1.Unmarshal(value, &inner); err == nil && len(rest) == 0 {
		return inner
	}
	return value
}

func httpClient(ca string) (*http.Client, error) {
	pool := x509.NewCertPool()
	roots, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16},
	}, nil
}

func get(hc *http.Client, url string) ([]byte, error) {
	answer, err := hc.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 1<<20))
}
