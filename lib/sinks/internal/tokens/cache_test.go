package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/sinks"
)

// issuer is a token endpoint: each fetch takes as long as it says and gives the next token.
type issuer struct {
	life  time.Duration // of tokens; 0: they do not say
	takes time.Duration
	err   error
	n     int // fetches
	most  int // at the same time
	now   int
}

func (i *issuer) fetch(ctx context.Context) (Token, error) {
	i.n++
	i.now++
	i.most = max(i.most, i.now)
	defer func() { i.now-- }()
	n, err, life := i.n, i.err, i.life
	select {
	case <-time.After(i.takes):
	case <-ctx.Done():
		return Token{}, &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "ended", Cause: ctx.Err()}
	}
	if err != nil {
		return Token{}, err
	}
	t := Token{Value: fmt.Sprint("token-", n)}
	if life != 0 {
		t.Expires = time.Now().Add(life)
	}
	return t, nil
}

func want(t *testing.T, c *Cache, token string) {
	t.Helper()
	if got, err := c.Get(t.Context()); got != token || err != nil {
		t.Errorf("Get = %q, %v, want %q", got, err, token)
	}
}

func TestATokenIsRenewedWhenATenthOfItsLifeIsLeftOrFiveMinutes(t *testing.T) {
	for life, renewed := range map[time.Duration]time.Duration{
		10 * time.Second: 9 * time.Second,
		10 * time.Minute: 9 * time.Minute,
		time.Hour:        55 * time.Minute,
		24 * time.Hour:   24*time.Hour - 5*time.Minute,
		0:                5*time.Minute - 30*time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			i := &issuer{life: life}
			c := New(i.fetch)
			want(t, c, "token-1")
			time.Sleep(renewed - time.Millisecond)
			want(t, c, "token-1")
			time.Sleep(time.Millisecond)
			want(t, c, "token-2")
			if i.n != 2 {
				t.Errorf("%d fetches, want 2", i.n)
			}
		})
	}
}

func TestCallersShareOneFetchAndItsError(t *testing.T) {
	for _, failure := range []error{nil, sinks.Unreached(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "refused"})} {
		synctest.Test(t, func(t *testing.T) {
			i := &issuer{life: time.Hour, takes: time.Second, err: failure}
			c := New(i.fetch)
			got := make(chan error, 50)
			for range cap(got) {
				go func() {
					token, err := c.Get(t.Context())
					if err == nil && token != "token-1" {
						err = fmt.Errorf("token %q", token)
					}
					got <- err
				}()
			}
			for range cap(got) {
				if err := <-got; !errors.Is(err, failure) {
					t.Errorf("Get: %v, want %v", err, failure)
				}
			}
			if i.n != 1 {
				t.Errorf("%d fetches, want 1", i.n)
			}
		})
	}
}

// Whoever began the fetch leaves as the others do.
func TestACallerLeavesAtItsEndAndTheFetchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour, takes: 3 * time.Second}
		c := New(i.fetch)
		start := time.Now()
		first := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Get(ctx)
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			token, err := c.Get(t.Context())
			if token != "token-1" {
				err = errors.Join(err, fmt.Errorf("token %q", token))
			}
			second <- err
		}()
		err := <-first
		if took := time.Since(start); took != time.Second {
			t.Errorf("the first left after %s, want its second", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || sinks.CodeOf(err) != sinks.CodeSinkUnavailable || sinks.IsTransient(err) || sinks.IsAmbiguous(err) {
			t.Errorf("the first: %v, want its context's end, coded and not marked", err)
		}
		if err := <-second; err != nil {
			t.Errorf("the second: %v", err)
		}
		if took := time.Since(start); took != 3*time.Second || i.n != 1 {
			t.Errorf("the second has its token after %s and %d fetches, want 3 s and 1", took, i.n)
		}
	})
}

func TestNothingIsFetchedForAnAttemptThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c := New(i.fetch)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if token, err := c.Get(over); token != "" || !errors.Is(err, context.Canceled) {
			t.Errorf("Get = %q, %v, want the context's end", token, err)
		}
		synctest.Wait()
		if i.n != 0 {
			t.Errorf("%d fetches, want none", i.n)
		}
	})
}

// The fetch's end is not the caller's: as a context's error it would pass for that.
func TestAFetchWithoutEndIsTransient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New((&issuer{takes: time.Hour}).fetch)
		start := time.Now()
		_, err := c.Get(t.Context())
		if !sinks.IsTransient(err) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "token endpoint: no token came within 10s") {
			t.Errorf("Get: %v, want a transient error about the token endpoint", err)
		}
		if took := time.Since(start); took != fetchTime {
			t.Errorf("it took %s, want %s", took, fetchTime)
		}
	})
}

func TestAnAmbiguousFetchIsTransient(t *testing.T) {
	c := New((&issuer{err: sinks.Ambiguous(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "sent"})}).fetch)
	if _, err := c.Get(t.Context()); sinks.IsAmbiguous(err) || !sinks.IsTransient(err) {
		t.Errorf("Get: %v, want a transient error: nothing was sent to the receiver", err)
	}
	if _, err := New(func(context.Context) (Token, error) { return Token{}, nil }).Get(t.Context()); !sinks.IsTransient(err) {
		t.Errorf("Get without a token: %v, want a transient error", err)
	}
}

func TestTheOldTokenServesWhileItsRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: 100 * time.Second}
		c := New(i.fetch)
		want(t, c, "token-1")
		i.err = sinks.Transient(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "down"})
		for range 99 {
			time.Sleep(time.Second)
			want(t, c, "token-1")
		}
		if i.n < 4 || i.n > 11 {
			t.Errorf("%d fetches, want some: neither each Get nor one alone tries", i.n)
		}
		time.Sleep(time.Second)
		if _, err := c.Get(t.Context()); !errors.Is(err, i.err) {
			t.Errorf("Get with a token that is over: %v, want %v", err, i.err)
		}
		i.err = nil
		if token, err := c.Get(t.Context()); err != nil || token == "token-1" {
			t.Errorf("Get when the endpoint is up = %q, %v, want another token", token, err)
		}
	})
}

// A token that ends while its renewal fails is of no use.
func TestATokenThatEndsDuringItsRenewalIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: 10 * time.Second}
		c := New(i.fetch)
		want(t, c, "token-1")
		time.Sleep(9 * time.Second)
		i.takes, i.err = 1500*time.Millisecond, sinks.Transient(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "down"})
		if token, err := c.Get(t.Context()); token != "" || !errors.Is(err, i.err) {
			t.Errorf("Get = %q, %v, want %v", token, err, i.err)
		}
	})
}

// An endpoint that asks to wait is left alone as long as the old token serves.
func TestARenewalWaitsAsLongAsItWasAskedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c := New(i.fetch)
		want(t, c, "token-1")
		i.err = sinks.RetryAfter(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "slower"}, 4*time.Minute)
		time.Sleep(55 * time.Minute)
		for range 240 {
			want(t, c, "token-1")
			time.Sleep(time.Second)
		}
		if i.n != 2 {
			t.Errorf("%d fetches, want 2", i.n)
		}
		i.err = nil
		want(t, c, "token-3")
	})
}

func TestASlowRenewalHoldsUpOneCallerAndNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c := New(i.fetch)
		want(t, c, "token-1")
		i.takes = 5 * time.Second
		time.Sleep(55 * time.Minute)
		start := time.Now()
		began := make(chan string, 1)
		go func() {
			token, err := c.Get(t.Context())
			if err != nil {
				t.Error(err)
			}
			began <- token
		}()
		synctest.Wait()
		want(t, c, "token-1")
		if took := time.Since(start); took != 0 {
			t.Errorf("a second caller waited %s for the renewal", took)
		}
		if token := <-began; token != "token-1" || time.Since(start) != renewTime {
			t.Errorf("who began it got %q after %s, want the old token after %s", token, time.Since(start), renewTime)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		want(t, c, "token-2")
		if i.n != 2 || i.most != 1 {
			t.Errorf("%d fetches, %d at once, want 2, one at a time", i.n, i.most)
		}
	})
}

func TestARefusedTokenIsForgottenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c := New(i.fetch)
		want(t, c, "token-1")
		for range 3 { // attempts that were under way with it
			if !c.Drop("token-1") {
				t.Error("Drop = false: another token is worth another attempt")
			}
		}
		want(t, c, "token-2")
		if !c.Drop("token-1") {
			t.Error("a late Drop = false")
		}
		want(t, c, "token-2")
		if c.Drop("token-2") {
			t.Error("Drop = true for a token that replaced a refused one just now")
		}
		want(t, c, "token-3")
		time.Sleep(suspicion + time.Second)
		if !c.Drop("token-3") {
			t.Error("Drop = false for a token that served for a while")
		}
		if i.n != 3 {
			t.Errorf("%d fetches, want 3", i.n)
		}
	})
}

// An endpoint whose clock is behind gives tokens that are over: who waits tries with them.
func TestATokenThatIsOverServesThoseWhoWaitedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New((&issuer{life: -time.Minute}).fetch)
		want(t, c, "token-1")
		want(t, c, "token-2")
	})
}

func TestNoTokenIsPrinted(t *testing.T) {
	c := New((&issuer{life: time.Hour}).fetch)
	want(t, c, "token-1")
	for _, v := range []any{c, Token{Value: "token-1"}, &Token{Value: "token-1"}, struct{ Tokens *Cache }{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "token-1") {
				t.Errorf("%T with %s: %s", v, verb, text)
			}
		}
	}
}

// contextUntil returns a context that ends as soon as something comes from c.
func contextUntil(t *testing.T, c <-chan struct{}) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
