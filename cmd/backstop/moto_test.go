package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

const (
	motoRegion = "eu-west-1"
	motoSecret = "not-really-secret"
)

// emulator is the AWS emulator that the tests share; stopEmulator ends it.
var (
	emulator     = sync.OnceValues(startEmulator)
	stopEmulator = func() {}
)

// useMoto points the AWS SDK at the emulator, for the commands and for the returned
// configuration.
func useMoto(t *testing.T) aws.Config {
	t.Helper()
	url, err := emulator()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ENDPOINT_URL", url)
	t.Setenv("AWS_REGION", motoRegion)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", motoSecret)
	return aws.Config{
		Region: motoRegion, BaseEndpoint: aws.String(url),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", motoSecret, ""),
	}
}

func startEmulator() (string, error) {
	binary, err := exec.LookPath("moto_server")
	if err != nil {
		return "", fmt.Errorf("moto_server is missing: install it with `pip install 'moto[server]'` (the tests never skip)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	var output bytes.Buffer
	cmd := exec.Command(binary, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return "", err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its output tells why
		close(exited)
	}()
	stopEmulator = func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; {
		if resp, err := http.Get("http://" + address + "/moto-api/"); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return "http://" + address, nil
		}
		select {
		case <-exited:
			return "", fmt.Errorf("moto_server ended: %s\n%s", cmd.ProcessState, &output)
		case <-tick.C:
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("moto_server does not answer within 30 s")
		}
	}
}
