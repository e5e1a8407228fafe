package webpush_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"backstop/lib/sinks"
	"backstop/lib/sinks/webpush"
)

// A browser subscribes with the application's public key, and gives the application its
// PushSubscription: the recipient of messages to it. A push service that no longer knows it says
// that it is gone.
func Example() {
	answers := []int{http.StatusCreated, http.StatusGone}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("TTL", r.Header.Get("TTL"), "urgency", r.Header.Get("Urgency"), r.Header.Get("Content-Encoding"))
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	defer service.Close()

	browsers, err := webpush.New("browsers", webpush.Config{
		VAPIDPublicKey:         "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
		VAPIDPrivateKey:        "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw",
		Subscriber:             "mailto:ops@example.org",
		Urgency:                "high",
		AllowPrivateRecipients: true, // for this example's push service
	}, nil)
	if err != nil {
		panic(err)
	}
	subscription := `{"endpoint": "` + service.URL + `/send/dK3", "expirationTime": null, "keys": {
		"p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
		"auth": "BTBZMqHH6r4Tts7J_aSIgg"}}`
	to, err := sinks.DecodeRecipient(browsers, []byte(subscription))
	if err != nil {
		panic(err)
	}
	message := sinks.Message{ID: "order:1042/shipped", Subject: "Shipped", Body: "It arrives tomorrow.", Metadata: map[string]string{"url": "/orders/1042"}}
	fmt.Println(browsers.Send(context.Background(), to, message))

	err = browsers.Send(context.Background(), to, message)
	fmt.Println(sinks.CodeOf(err), "gone:", sinks.IsGone(err), "transient:", sinks.IsTransient(err))
	// Output:
	// TTL 2419200 urgency high aes128gcm
	// <nil>
	// TTL 2419200 urgency high aes128gcm
	// SINK_UNAVAILABLE gone: true transient: false
}
