package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"backstop/internal/freeport"
)

// postgresSettings leave out all that is for surviving a crash, since the Redis beside it
// persists nothing either. Autovacuum is off so that it does not fall into another side's
// turn; who stores much calls VACUUM (ANALYZE), untimed.
var postgresSettings = []string{"fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"}

// startPostgres starts a PostgreSQL of the benchmark's own on a free port of loopback, and
// stops it at the benchmark's end. On Linux it also ends when the process does, however
// that ends.
func startPostgres(b *testing.B) *pgxpool.Pool {
	b.Helper()
	initdb, err := postgresBinary("initdb")
	ok(b, err)
	binary, err := postgresBinary("postgres")
	ok(b, err)
	dir, err := os.MkdirTemp("", "postgres-") //nolint:usetesting // the user postgres could not reach b.TempDir
	ok(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	credential, err := postgresUser(dir)
	ok(b, err)
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		c.Dir, c.SysProcAttr = dir, &syscall.SysProcAttr{Credential: credential}
		return c
	}

	out, err := command(initdb, "-D", dir, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		b.Fatalf("initdb: %v\n%s", err, out)
	}
	port, release, err := freeport.Reserve()
	ok(b, err)
	b.Cleanup(release)
	args := []string{"-D", dir, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-c", "unix_socket_directories="}
	for _, s := range postgresSettings {
		args = append(args, "-c", s)
	}
	server := command(binary, args...)
	var log bytes.Buffer // complete once done is closed
	server.Stdout, server.Stderr = &log, &log
	// At SIGQUIT it ends at once and takes its children and shared memory with it.
	dieWithParent(server.SysProcAttr, syscall.SIGQUIT)
	started, done := make(chan error, 1), make(chan struct{})
	// The parent-death signal is bound to the thread that forks, so a thread is held for
	// as long as the server runs.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
	}()
	ok(b, <-started)
	b.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		<-done
	})

	// As many connections as redistest's clients have.
	pool, err := pgxpool.New(context.Background(), fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&pool_max_conns=16", port))
	ok(b, err)
	b.Cleanup(pool.Close)
	deadline := time.Now().Add(20 * time.Second)
	for err := pool.Ping(context.Background()); err != nil; err = pool.Ping(context.Background()) {
		if time.Now().After(deadline) {
			b.Fatalf("postgres does not answer: %v", err)
		}
		select {
		case <-done:
			b.Fatalf("postgres ended: %s", log.Bytes())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return pool
}

// postgresBinary finds a program of PostgreSQL. Debian has a folder for each version, and
// none of them on the PATH.
func postgresBinary(name string) (string, error) {
	found, err := filepath.Glob(filepath.Join("/usr/lib/postgresql/*/bin", name))
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) int {
			v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
			return v
		}
		return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w\ninstall it: apt-get install postgresql", err)
	}
	return path, nil
}

// postgresUser returns who runs the server, and gives them its folder: root, whom
// PostgreSQL refuses, lets the user postgres of Debian's package; anybody else runs it
// themselves.
func postgresUser(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w\ninstall it: apt-get install postgresql", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err, os.Chown(dir, uid, gid))
}
