package kinds

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
)

// generated are examples that only a fresh key can be: one that is written down would be a secret that
// everybody knows. Each says that it is to be replaced.
var generated = map[string]func() (string, error){
	"fcm.service_account": func() (string, error) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return "", err
		}
		text, err := keyFile(key)
		if err != nil {
			return "", err
		}
		file, err := json.MarshalIndent(map[string]string{ //nolint:gosec // nothing of it is real
			"type": "service_account", "project_id": "replace-me", "private_key_id": "replace-me", "private_key": text,
			"client_email": "replace-me@replace-me.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
		}, "", "  ")
		return string(file), err
	},
	"apns.private_key": func() (string, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", err
		}
		text, err := keyFile(key)
		return "replace-me with the .p8 file\n" + text, err
	},
}

// keyFile writes a key as PEM.
func keyFile(key crypto.PrivateKey) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("an example's key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// literal writes a text of several lines as a value in YAML.
func literal(text string) string {
	return "|-\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}
