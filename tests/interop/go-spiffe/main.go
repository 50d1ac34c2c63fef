// A workload that this project did not write: everything that speaks, parses and verifies here is
// go-spiffe's, which knows the SPIFFE standards and nothing of this project.
//
//	workload -audience A [-rotated]    at the socket that $SPIFFE_ENDPOINT_SOCKET names
//
// Asks for all that the Workload API has, verifies each SVID with the bundle that came beside it, and has
// what must not pass refused. With -rotated it then waits until its stream brings another X.509-SVID.
// Prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type report struct {
	IDs        []string `json:"ids"`     // of the X.509-SVIDs, the default first
	Hints      []string `json:"hints"`   // theirs
	Serials    []string `json:"serials"` // of the leaves, in hex
	Bundles    []string `json:"bundles"` // trust domains with X.509 roots
	JWTBundles []string `json:"jwt_bundles"`
	JWT        string   `json:"jwt"` // whose JWT-SVID came, and passed go-spiffe and the agent
	Token      string   `json:"token"`
	Expires    int64    `json:"expires"`
	Refused    []string `json:"refused"` // the gRPC status of each of the three that must not pass
	Rotated    string   `json:"rotated,omitempty"`
}

func main() {
	audience := flag.String("audience", "spiffe://example.org/server", "of the JWT-SVID")
	rotated := flag.Bool("rotated", false, "wait for another SVID on the stream")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := ask(ctx, *audience, *rotated)
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

func ask(ctx context.Context, audience string, rotated bool) (*report, error) {
	client, err := workloadapi.New(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	r := &report{}
	if err := x509(ctx, client, r); err != nil {
		return nil, fmt.Errorf("X.509: %w", err)
	}
	if err := jwt(ctx, client, audience, r); err != nil {
		return nil, fmt.Errorf("JWT: %w", err)
	}
	if rotated {
		if err := untilRotated(ctx, client, r); err != nil {
			return nil, fmt.Errorf("rotation: %w", err)
		}
	}
	return r, nil
}

func x509(ctx context.Context, client *workloadapi.Client, r *report) error {
	all, err := client.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	for _, s := range all.SVIDs {
		id, _, err := x509svid.Verify(s.Certificates, all.Bundles)
		if err != nil {
			return fmt.Errorf("%s: %w", s.ID, err)
		}
		if id != s.ID {
			return fmt.Errorf("%s is %s by its certificate", s.ID, id)
		}
		r.IDs = append(r.IDs, s.ID.String())
		r.Hints = append(r.Hints, s.Hint)
		r.Serials = append(r.Serials, s.Certificates[0].SerialNumber.Text(16))
	}
	bundles, err := client.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	for _, b := range bundles.Bundles() {
		beside, ok := all.Bundles.Get(b.TrustDomain())
		if !ok || !beside.Equal(b) {
			return fmt.Errorf("the bundle of %s is another than the one beside the SVIDs", b.TrustDomain())
		}
		r.Bundles = append(r.Bundles, b.TrustDomain().Name())
	}
	sort.Strings(r.Bundles)
	return nil
}

func jwt(ctx context.Context, client *workloadapi.Client, audience string, r *report) error {
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	for _, b := range bundles.Bundles() {
		r.JWTBundles = append(r.JWTBundles, b.TrustDomain().Name())
	}
	sort.Strings(r.JWTBundles)
	// audiences: more than one, and the token must hold for each
	s, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, ExtraAudiences: []string{"another"}})
	if err != nil {
		return err
	}
	for _, a := range []string{audience, "another"} {
		if _, err := jwtsvid.ParseAndValidate(s.Marshal(), bundles, []string{a}); err != nil {
			return fmt.Errorf("go-spiffe refuses it: %w", err)
		}
		seen, err := client.ValidateJWTSVID(ctx, s.Marshal(), a)
		if err != nil {
			return fmt.Errorf("the agent refuses it: %w", err)
		}
		if seen.ID != s.ID {
			return fmt.Errorf("%s is %s by the agent", s.ID, seen.ID)
		}
	}
	r.JWT, r.Token, r.Expires = s.ID.String(), s.Marshal(), s.Expiry.Unix()
	// by its ID, as one of several would be asked for
	named, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: s.ID})
	if err != nil || named.ID != s.ID {
		return fmt.Errorf("asked for by its ID: %v", err)
	}
	return refused(ctx, client, s, audience, r)
}

// What must not pass: a yes of the agent means something only where it can say no.
func refused(ctx context.Context, client *workloadapi.Client, s *jwtsvid.SVID, audience string,
	r *report) error {
	foreign := spiffeid.RequireFromPath(s.ID.TrustDomain(), "/not/of/this/caller")
	garbled := []byte(s.Marshal())
	if c := &garbled[len(garbled)-10]; *c == 'A' { // in the signature
		*c = 'B'
	} else {
		*c = 'A'
	}
	_, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: foreign})
	tries := []error{err}
	_, err = client.ValidateJWTSVID(ctx, s.Marshal(), "somebody else")
	tries = append(tries, err)
	_, err = client.ValidateJWTSVID(ctx, string(garbled), audience)
	for i, err := range append(tries, err) {
		if err == nil {
			return fmt.Errorf("the %d. of what must be refused passed", i+1)
		}
		r.Refused = append(r.Refused, code(err))
	}
	return nil
}

func code(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if s, ok := status.FromError(e); ok && s.Code() != codes.Unknown {
			return s.Code().String()
		}
	}
	return "none"
}

type watcher struct {
	first string
	found chan string
}

func (w *watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	s := c.DefaultSVID()
	if _, _, err := x509svid.Verify(s.Certificates, c.Bundles); err != nil {
		fmt.Fprintln(os.Stderr, "workload: after a rotation:", err)
		os.Exit(1)
	}
	serial := s.Certificates[0].SerialNumber.Text(16)
	if serial != w.first {
		select {
		case w.found <- serial:
		default:
		}
	}
}

func (w *watcher) OnX509ContextWatchError(err error) {
	if status.Code(err) != codes.Canceled {
		fmt.Fprintln(os.Stderr, "workload: the stream broke:", err)
		os.Exit(1)
	}
}

// One stream, which must bring the next SVID by itself.
func untilRotated(ctx context.Context, client *workloadapi.Client, r *report) error {
	w := &watcher{r.Serials[0], make(chan string, 1)}
	go client.WatchX509Context(ctx, w)
	select {
	case r.Rotated = <-w.found:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
