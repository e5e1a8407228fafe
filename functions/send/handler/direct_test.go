package handler

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"backstop/lib/delivery"
)

// The platform invokes again what an asynchronous invocation did not end well, or did
// not end: under the same request id. The receiver must be able to see that.
func TestADirectInvocationWithoutAnIDIsKnownByItsRequestID(t *testing.T) {
	h := newHandler(t)
	invoke := func(request, payload string) (a delivery.Answer) {
		t.Helper()
		ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: request})
		out, err := h.Invoke(ctx, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	const id, other = "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "1e9f4a53-e9f4-11e8-9739-2dfe598c3fcd"
	const payload = `{"sink":"ok","message":{"body":"x"}}`
	if a := invoke(id, payload); a.DeliveryID != id || a.Duplicate {
		t.Errorf("the first time: %+v, want delivery id %s", a, id)
	}
	if a := invoke(id, payload); a.DeliveryID != id || !a.Duplicate {
		t.Errorf("the second time: %+v, want a duplicate of %s", a, id)
	}
	if a := invoke(other, payload); a.DeliveryID != other || a.Duplicate {
		t.Errorf("another invocation: %+v, want a delivery of its own", a)
	}
	if a := invoke(id, `{"id":"own","sink":"ok","message":{"body":"x"}}`); a.DeliveryID != "own" {
		t.Errorf("with an id of its own: %+v", a)
	}
}
