package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// SignRS256 returns a JWT of claims, signed with an RSA key. An empty keyID is left out.
func SignRS256(key *rsa.PrivateKey, keyID string, claims any) (string, error) {
	return sign("RS256", keyID, claims, func(digest []byte) ([]byte, error) {
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest)
	})
}

// SignES256 returns a JWT of claims, signed with a key on the curve P-256. An empty keyID is left
// out.
func SignES256(key *ecdsa.PrivateKey, keyID string, claims any) (string, error) {
	return sign("ES256", keyID, claims, func(digest []byte) ([]byte, error) {
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 64) // RFC 7518, section 3.4
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signature, nil
	})
}

func sign(algorithm, keyID string, claims any, signature func(digest []byte) ([]byte, error)) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		KeyID     string `json:"kid,omitempty"`
	}{algorithm, "JWT", keyID})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode(header) + "." + encode(payload)
	digest := sha256.Sum256([]byte(text))
	signed, err := signature(digest[:])
	if err != nil {
		return "", err
	}
	return text + "." + encode(signed), nil
}
