package functions_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A function has its credentials from the environment: what profiles, SSO and EC2 need is not in its binary, and costs
// neither its start nor its download.
func TestFunctionsHoldNoCodeForProfiles(t *testing.T) {
	for _, f := range []string{"send", "replay", "dlq-api"} {
		binary, err := os.ReadFile(filepath.Join(built(t), f, "bootstrap"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(binary, []byte("aws-sdk-go-v2/service/ssm.(*Client)")) {
			t.Fatalf("%s: the names of its functions are not in the binary", f)
		}
		for _, name := range []string{"service/ssooidc.(*Client)", "service/sts.(*Client)", "config.LoadDefaultConfig", "imds.(*Client)"} {
			if bytes.Contains(binary, []byte(name)) {
				t.Errorf("%s holds %s", f, name)
			}
		}
	}
}
