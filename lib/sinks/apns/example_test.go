package apns_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"backstop/lib/sinks"
	"backstop/lib/sinks/apns"
)

// A device that was unregistered is gone: nothing sent to it will ever arrive.
func Example() {
	apple := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // what stands in for Apple here
		if strings.HasSuffix(r.URL.Path, "00") {
			w.WriteHeader(http.StatusGone)
			_, _ = io.WriteString(w, `{"reason":"Unregistered","timestamp":1795764000000}`)
			return
		}
		payload, err := io.ReadAll(r.Body)
		fmt.Println(r.Header.Get("Apns-Topic"), string(payload), err)
	}))
	apple.EnableHTTP2 = true
	apple.StartTLS()
	defer apple.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(apple.Certificate())

	push, err := apns.New("push", apns.Config{
		KeyID: "ABC123DEFG", TeamID: "DEF123GHIJ", PrivateKey: p8(), // from the developer account
		Topic:   "org.example.shop",
		BaseURL: apple.URL, // without it, Apple's
	}, &apns.Options{RootCAs: trusted})
	if err != nil {
		panic(err)
	}
	message := sinks.Message{Subject: "On its way", Body: "Your order arrives today."}
	fmt.Println(push.Send(context.Background(), apns.Recipient{DeviceToken: strings.Repeat("a1", 32)}, message))

	err = push.Send(context.Background(), apns.Recipient{DeviceToken: strings.Repeat("00", 32)}, message)
	fmt.Println(sinks.CodeOf(err), "gone:", sinks.IsGone(err))
	// Output:
	// org.example.shop {"aps":{"alert":{"body":"Your order arrives today.","title":"On its way"}}} <nil>
	// <nil>
	// SINK_UNAVAILABLE gone: true
}

// p8 makes a key file.
func p8() sinks.Secret {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return sinks.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
