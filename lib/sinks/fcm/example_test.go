package fcm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"backstop/lib/sinks"
	"backstop/lib/sinks/fcm"
)

// A device that was unregistered is gone: nothing sent to it will ever arrive.
func Example() {
	google := http.NewServeMux() // what stands in for Google here
	google.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_token":"ya29.token","expires_in":3599,"token_type":"Bearer"}`)
	})
	google.HandleFunc("POST /v1/projects/shop-1/messages:send", func(w http.ResponseWriter, r *http.Request) {
		var sent struct {
			Message struct {
				Token        string
				Notification json.RawMessage
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil || sent.Message.Token == "old" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":{"status":"NOT_FOUND","details":[{"errorCode":"UNREGISTERED"}]}}`)
			return
		}
		fmt.Println(string(sent.Message.Notification))
		_, _ = io.WriteString(w, `{"name":"projects/shop-1/messages/0:1500415314455276"}`)
	})
	server := httptest.NewServer(google)
	defer server.Close()

	push, err := fcm.New("push", fcm.Config{
		ServiceAccount: keyFile(server.URL + "/token"), // from the Google Cloud console
		BaseURL:        server.URL,                     // without it, Google's
	}, nil)
	if err != nil {
		panic(err)
	}
	message := sinks.Message{ID: "order-42", Subject: "On its way", Body: "Your order arrives today."}
	fmt.Println(push.Send(context.Background(), fcm.Recipient{Token: "new"}, message))

	err = push.Send(context.Background(), fcm.Recipient{Token: "old"}, message)
	fmt.Println(sinks.CodeOf(err), "gone:", sinks.IsGone(err))
	// Output:
	// {"title":"On its way","body":"Your order arrives today."}
	// <nil>
	// SINK_UNAVAILABLE gone: true
}

// keyFile makes a service account's key file.
func keyFile(tokenURI string) sinks.Secret {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	file, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "shop-1", "client_email": "push@shop-1.iam.gserviceaccount.com", "token_uri": tokenURI,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		panic(err)
	}
	return sinks.Secret(file)
}
